-- Who has a key says with its token how the mail ended. Tokens rise, and none comes twice.

-- +goose Up
create sequence email_receipts_tokens start 2;
alter table email_receipts
	add column token bigint not null default 1, -- of who has the key, 0: of nobody any more
	add column since bigint not null default 1; -- the token of the first of those who had it for this mail
-- An empty receipt says that nobody knows whether the mail went.
