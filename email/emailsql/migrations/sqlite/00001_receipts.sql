-- Times are milliseconds since 1970, by the clocks of those who send.

-- +goose Up
create table email_receipts (
	id      blob primary key, -- derived from the idempotency key
	hash    blob not null,    -- of the mail
	owner   blob not null,    -- the call that noted it last
	takes   integer not null, -- how often it was taken over from a call that was never heard of again
	receipt blob,             -- sealed; null while the mail is on its way
	began   integer not null,
	until   integer not null
) strict;
create index email_receipts_until on email_receipts (until);
