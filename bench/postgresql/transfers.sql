-- One lone transfer between two different accounts, all pairs alike. The id grows with time, as a UUIDv7 does.
\set turn :turn + 1
\set id :turn * 1000 + :client_id
\set debit random(1, :accounts)
\set credit 1 + (:debit - 1 + random(1, :accounts - 1)) % :accounts
\set amount random(1, 100)
SELECT * FROM transfer(lpad(:id, 32, '0')::uuid, :debit, :credit, :amount);
