-- What must be zero after every run: both sums, accounts whose balance is not the sum of its postings, transfers
-- without exactly two postings; and, as a fact, how many transfers were refused.
SELECT
    (SELECT sum(balance) FROM accounts),
    (SELECT sum(amount) FROM postings),
    (SELECT count(*) FROM accounts a LEFT JOIN
        (SELECT account, sum(amount) AS total FROM postings GROUP BY account) p ON p.account = a.id
     WHERE a.balance <> coalesce(p.total, 0)),
    (SELECT 2 * (SELECT count(*) FROM transfers WHERE status = 'ok') - (SELECT count(*) FROM postings)),
    (SELECT count(*) FROM transfers WHERE status <> 'ok');
