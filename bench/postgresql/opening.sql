-- Give each account its opening balance by a transfer from the bank's cash, account 0, so that the books start whole.
BEGIN;
INSERT INTO accounts (id, balance, floor) VALUES (0, -:accounts::bigint * :opening, NULL);
INSERT INTO accounts (id, balance) SELECT number, :opening FROM generate_series(1, :accounts) AS number;
INSERT INTO transfers (id, debit, credit, amount, status)
SELECT lpad(number::text, 32, '0')::uuid, 0, number, :opening, 'ok' FROM generate_series(1, :accounts) AS number;
INSERT INTO postings (account, transfer, amount, balance_after)
SELECT 0, lpad(number::text, 32, '0')::uuid, -:opening, -:opening::bigint * number FROM generate_series(1, :accounts) AS number
UNION ALL
SELECT number, lpad(number::text, 32, '0')::uuid, :opening, :opening FROM generate_series(1, :accounts) AS number;
COMMIT;
VACUUM (ANALYZE) accounts, transfers, postings;
CHECKPOINT;
