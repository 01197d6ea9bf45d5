-- One lone transfer that credits account 1, whoever pays.
\set turn :turn + 1
\set id :turn * 1000 + :client_id
\set debit random(2, :accounts)
\set amount random(1, 100)
SELECT * FROM transfer(lpad(:id, 32, '0')::uuid, :debit, 1, :amount);
