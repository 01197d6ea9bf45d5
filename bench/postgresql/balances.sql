-- One balance read.
\set account random(1, :accounts)
SELECT balance FROM accounts WHERE id = :account;
