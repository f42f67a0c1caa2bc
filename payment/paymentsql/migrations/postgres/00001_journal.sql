-- Times are milliseconds since 1970, amounts minor units of their currency. An
-- entry is the column entry; the others say the same of its newest attempt, for
-- indexes and reports.

-- +goose Up
create table payment_journal (
	tenant     text collate "C" not null,
	order_id   text collate "C" not null,
	version    bigint not null,           -- how often it was written
	state      text not null default '',  -- of the newest attempt, empty before the first
	provider   text not null default '',  -- a path where Clients are nested
	payment_id text not null default '',  -- the provider's
	amount     bigint not null default 0, -- what was asked for
	currency   text not null default '',
	due        bigint not null default 0, -- when it is looked after next, 0: not at all
	created    bigint not null default 0,
	updated    bigint not null default 0,
	entry      json not null default '{}',
	primary key (tenant, order_id)
);
create index payment_journal_due on payment_journal (due, tenant, order_id) where due > 0;

create table payment_journal_ids (
	provider text collate "C" not null,
	id       text collate "C" not null, -- of a payment, charge, authorisation or refund
	tenant   text collate "C" not null,
	order_id text collate "C" not null,
	primary key (provider, id)
);
create index payment_journal_ids_order on payment_journal_ids (tenant, order_id);
