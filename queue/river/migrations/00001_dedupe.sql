-- What River's unique jobs can't do: remember a key for a time of its own, also
-- when its job is done and gone, and what it stood for. Times are milliseconds
-- since 1970, by the clocks of those who enqueue.

-- +goose Up
create table integrations_dedupe (
	queue text collate "C" not null, -- River's
	kind  text collate "C" not null,
	key   text collate "C" not null,
	id    text collate "C" not null,
	hash  bytea not null,
	until bigint not null,
	primary key (queue, kind, key)
);
create index integrations_dedupe_until on integrations_dedupe (until);
