-- Who has a key says with its token how the mail ended. Tokens rise, and none comes twice.

-- +goose Up
create table email_receipts_tokens (last integer not null) strict;
insert into email_receipts_tokens values (1);
alter table email_receipts add column token integer not null default 1; -- of who has the key, 0: of nobody any more
alter table email_receipts add column since integer not null default 1; -- the token of the first of those who had it for this mail
-- An empty receipt says that nobody knows whether the mail went.
