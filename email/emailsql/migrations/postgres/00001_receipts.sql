-- Times are milliseconds since 1970, by the clocks of those who send.

-- +goose Up
create table email_receipts (
	id      bytea primary key, -- derived from the idempotency key
	hash    bytea not null,    -- of the mail
	owner   bytea not null,    -- the call that noted it last
	takes   bigint not null,   -- how often it was taken over from a call that was never heard of again
	receipt bytea,             -- sealed; null while the mail is on its way
	began   bigint not null,
	until   bigint not null
);
create index email_receipts_until on email_receipts (until);
