-- The bank as one would write it in PostgreSQL: accounts, transfers by id, two postings for each, and one function.
-- Half-empty account pages keep each new balance on its page (a heap-only update, no index touched).
CREATE TABLE accounts (
    id      bigint PRIMARY KEY,
    balance bigint NOT NULL DEFAULT 0,
    floor   bigint DEFAULT 0            -- the balance may not fall below; null: no bound (the bank's own cash)
) WITH (fillfactor = 50);

-- No foreign keys: the function has locked both accounts already, and checking again would only slow PostgreSQL down.
CREATE TABLE transfers (
    id      uuid PRIMARY KEY,
    debit   bigint NOT NULL,
    credit  bigint NOT NULL,
    amount  bigint NOT NULL,
    status  text NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now()
);

-- One index serves both the history of an account and the two postings of a transfer whose accounts are known.
CREATE TABLE postings (
    account       bigint NOT NULL,
    transfer      uuid NOT NULL,
    amount        bigint NOT NULL,
    balance_after bigint NOT NULL,
    PRIMARY KEY (account, transfer)
);

-- Move money once. A refusal is kept like a success, so a repeated id gets the first answer, whatever that was.
CREATE FUNCTION transfer(
    id uuid, debit bigint, credit bigint, amount bigint,
    OUT status text, OUT debit_after bigint, OUT credit_after bigint
) LANGUAGE plpgsql AS $$
DECLARE
    account   record;
    available bigint;
    first     record;
BEGIN
    -- Ascending ids: two transfers in opposite directions queue up instead of waiting for each other for ever.
    FOR account IN
        SELECT a.id, a.balance, a.floor FROM accounts a WHERE a.id IN (debit, credit) ORDER BY a.id FOR UPDATE
    LOOP
        IF account.id = debit THEN
            debit_after := account.balance - amount;
            available := account.balance - account.floor;
        ELSE
            credit_after := account.balance + amount;
        END IF;
    END LOOP;

    status := CASE
        WHEN amount < 1 THEN 'amount_invalid'
        WHEN debit = credit THEN 'accounts_must_differ'
        WHEN debit_after IS NULL THEN 'debit_account_unknown'
        WHEN credit_after IS NULL THEN 'credit_account_unknown'
        WHEN amount > available THEN 'exceeds_available'
        ELSE 'ok'
    END;

    -- Only after both locks, so that whoever waits here for the same id to be decided is waited for by nobody who decides it.
    INSERT INTO transfers (id, debit, credit, amount, status)
    VALUES (transfer.id, transfer.debit, transfer.credit, transfer.amount, transfer.status)
    ON CONFLICT ON CONSTRAINT transfers_pkey DO NOTHING;

    IF NOT FOUND THEN
        SELECT t.debit, t.credit, t.amount, t.status INTO STRICT first FROM transfers t WHERE t.id = transfer.id;
        status := first.status;
        IF (first.debit, first.credit, first.amount) IS DISTINCT FROM (debit, credit, amount) THEN
            status := 'id_reused';
        END IF;
    ELSIF status = 'ok' THEN
        UPDATE accounts a SET balance = CASE a.id WHEN debit THEN debit_after ELSE credit_after END
        WHERE a.id IN (debit, credit);
        INSERT INTO postings (account, transfer, amount, balance_after)
        VALUES (debit, transfer.id, -amount, debit_after), (credit, transfer.id, amount, credit_after);
        RETURN;
    END IF;

    debit_after := NULL;
    credit_after := NULL;
    IF status = 'ok' THEN
        SELECT p.balance_after INTO STRICT debit_after FROM postings p WHERE p.account = debit AND p.transfer = transfer.id;
        SELECT p.balance_after INTO STRICT credit_after FROM postings p WHERE p.account = credit AND p.transfer = transfer.id;
    END IF;
END
$$;
