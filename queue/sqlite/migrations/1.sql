-- Times are milliseconds since 1970, by the clocks of those who enqueue and work; 0 is none.
-- The state of a job:
--   0 ready    the head of its key (or without one), and due
--   1 waiting  the head of its key, due at place
--   2 running  the head of its key, leased until place
--   3 behind   waits until it is the head of its key
--   4 dead     could not be done
-- The place of a ready job is its rank, so one index serves every claim.
CREATE TABLE queue_jobs (
	seq          INTEGER PRIMARY KEY, -- the order within a key
	id           TEXT NOT NULL UNIQUE,
	kind         TEXT NOT NULL,
	order_key    TEXT NOT NULL,
	state        INTEGER NOT NULL,
	place        INTEGER NOT NULL,
	rank         INTEGER NOT NULL,
	not_before   INTEGER NOT NULL,
	expires      INTEGER NOT NULL,
	enqueued     INTEGER NOT NULL,
	max_attempts INTEGER NOT NULL,
	attempt      INTEGER NOT NULL DEFAULT 0,
	token        INTEGER NOT NULL, -- random at first, so that no two jobs of one ID share any
	dedupe_key   TEXT NOT NULL,
	last_error   TEXT NOT NULL DEFAULT '',
	reason       TEXT NOT NULL DEFAULT '',
	died         INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX queue_claimable ON queue_jobs (kind, state, place) WHERE state < 3;
CREATE INDEX queue_ordered ON queue_jobs (order_key, seq) WHERE order_key <> '' AND state < 4;
CREATE INDEX queue_dead ON queue_jobs (died, seq) WHERE state = 4;

-- Apart from the jobs, since a claim and a settlement write the whole row.
CREATE TABLE queue_payloads (
	seq  INTEGER PRIMARY KEY,
	data BLOB NOT NULL
);

CREATE TABLE queue_dedupe (
	kind  TEXT NOT NULL,
	key   TEXT NOT NULL,
	id    TEXT NOT NULL,
	hash  BLOB NOT NULL,
	until INTEGER NOT NULL,
	PRIMARY KEY (kind, key)
) WITHOUT ROWID;
CREATE INDEX queue_dedupe_until ON queue_dedupe (until);
