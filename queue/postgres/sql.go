package postgres

import "strings"

// statements are those of one schema.
type statements struct {
	insert, insertDeduped, first, seen          string
	due, ended, claim, arrived, sweep, lockKeys string
	sort, next, lockJobs, settle, cancel        string
	count, list, revive, erase                  string
}

const notify = `select pg_notify($1, '')`

// columns are those of a queue.Claimed, as scan reads them.
const columns = `id, kind, key, payload, rank, not_before, expires, max_attempts, enqueued_at, dedupe_key, attempt, token, last_error`

const (
	insertColumns = `(id, kind, key, state, rank, due, payload, not_before, expires, max_attempts, enqueued_at, dedupe_key)`
	insertValues  = `$1::text, $2::text, $3::text, $4::text, $5::bigint, $6::bigint, $7::bytea, $8::bigint, $9::bigint, $10::int, $11::bigint, $12::text`
	// moveUp makes the next of each freed key its head. $1 is now. What freed tells
	// has left the index of heads by then, as the update reads it row by row.
	moveUp = `
		update {jobs} j set state = case when j.due <= $1 then 'ready' else 'waiting' end
		from freed f, lateral (
			select b.id from {jobs} b where b.key = f.key and b.state in ('new', 'blocked') order by b.seq limit 1
		) n
		where f.key <> '' and j.id = n.id
		returning 1`
)

func prepared(schema string) statements {
	names := strings.NewReplacer("{jobs}", schema+".jobs", "{dedupe}", schema+".dedupe")
	sql := func(parts ...string) string { return names.Replace(strings.Join(parts, " ")) }
	return statements{
		insert: sql(`insert into {jobs}`, insertColumns, `values (`, insertValues, `)`),
		// An expired dedupe key begins anew. A living one stores nothing.
		insertDeduped: sql(`
			with first as (
				insert into {dedupe} as d (kind, key, id, hash, until) values ($2, $12, $1, $13::bytea, $14::bigint)
				on conflict (kind, key) do update set id = excluded.id, hash = excluded.hash, until = excluded.until where d.until <= $15::bigint
				returning 1
			)
			insert into {jobs}`, insertColumns, `select`, insertValues, `from first`),
		first: sql(`select id, hash from {dedupe} where kind = $1 and key = $2`),
		seen: sql(`
			select exists (select from {jobs} where id = any($1::text[])) or exists (
				select from unnest($1::text[], $2::text[], $3::text[]) as g (id, kind, key) join {dedupe} d on d.kind = g.kind and d.key = g.key and d.id = g.id
			)`),

		// What has come due, and what no worker holds any more, is ready.
		due: sql(`
			with due as materialized (
				select id from {jobs} where state = 'waiting' and kind = any($1::text[]) and due <= $2
				order by due limit 1000 for update skip locked
			)
			update {jobs} j set state = 'ready' from due where j.id = due.id`),
		ended: sql(`
			with ended as materialized (
				select id from {jobs} where state = 'running' and kind = any($1::text[]) and (due <= $2 or due > $3)
				order by due limit 1000 for update skip locked
			)
			update {jobs} j set state = 'ready', due = least(j.due, $2) from ended where j.id = ended.id`),
		// Kind by kind, each from the front of its index.
		claim: sql(`
			with picked as materialized (
				select j.id from unnest($1::text[]) as k (kind), lateral (
					select id, rank, seq from {jobs} where state = 'ready' and kind = k.kind
					order by rank, seq limit $2 for update skip locked
				) j
				where $4::boolean or not exists (select from {jobs} where state = 'new')
				order by j.rank, j.seq limit $2
			), taken as (
				update {jobs} j set state = 'running', due = $3, attempt = attempt + 1, token = token + 1
				from picked where j.id = picked.id
				returning j.*
			)
			select`, columns, `from taken order by rank, seq`),
		arrived: sql(`select distinct key from (select key from {jobs} where state = 'new' order by seq limit 1000) n`),
		sweep: sql(`
			with old as materialized (
				select kind, key from {dedupe} where until <= $1 order by until limit 1000 for update skip locked
			)
			delete from {dedupe} d using old where d.kind = old.kind and d.key = old.key`),

		lockKeys: `
			select pg_advisory_xact_lock(h)
			from (select distinct hashtextextended(k, $2) as h from unnest($1::text[]) as k order by h offset 0) l`,
		lockJobs: sql(`
			select pg_advisory_xact_lock(h)
			from (select distinct hashtextextended(key, $2) as h from {jobs} where id = any($1::text[]) and key <> '' order by h offset 0) l`),
		// The first of a key that has no head becomes it.
		sort: sql(`
			with arrived as materialized (
				select id, key, row_number() over (partition by key order by seq) as n
				from (select id, key, seq from {jobs} where state = 'new' and key = any($1::text[]) order by seq limit 1000) n
			)
			update {jobs} j set state = case
				when a.n > 1 or exists (select from {jobs} h where h.key = a.key and h.key <> '' and h.state in ('waiting', 'ready', 'running')) then 'blocked'
				when j.due = 0 then 'ready'
				else 'waiting'
			end
			from arrived a where j.id = a.id`),
		next: sql(`
			select min(at) from (
				select due.at from unnest($1::text[]) as k (kind), lateral (
					(select due as at from {jobs} where state = 'ready' and kind = k.kind order by rank, seq limit 1)
					union all
					(select due from {jobs} where state = 'waiting' and kind = k.kind order by due limit 1)
					union all
					(select due from {jobs} where state = 'running' and kind = k.kind order by due limit 1)
				) due
			) n`),

		settle: sql(`
			with given as (
				select * from unnest($2::text[], $3::bigint[], $4::text[], $5::bigint[], $6::text[]) as g (id, token, outcome, at, reason)
			), held as materialized (
				select j.id, g.outcome, g.at, g.reason from {jobs} j join given g on j.id = g.id and j.token = g.token
				where j.state in ('running', 'ready')
				order by j.seq for update of j
			), gone as (
				delete from {jobs} j using held h where j.id = h.id and h.outcome = 'done'
				returning j.key
			), buried as (
				update {jobs} j set state = 'dead', died = $1, reason = h.reason
				from held h where j.id = h.id and h.outcome = 'bury'
				returning j.key
			), kept as (
				update {jobs} j set
					state = case when h.outcome = 'extend' then 'running' when least(h.at, j.expires) <= $1 then 'ready' else 'waiting' end,
					due = case when h.outcome = 'extend' then h.at else least(h.at, j.expires) end,
					token = case when h.outcome = 'extend' then j.token else j.token + 1 end,
					last_error = case when h.outcome = 'extend' then j.last_error else h.reason end
				from held h where j.id = h.id and h.outcome in ('extend', 'again')
				returning h.outcome
			), freed as (
				select key from gone union all select key from buried
			), moved as (`, moveUp, `)
			select h.id, exists (select from moved) or exists (select from kept where outcome = 'again') from held h`),
		cancel: sql(`
			with held as materialized (
				select id from {jobs} where id = any($2::text[]) and state <> 'running' order by seq for update
			), gone as (
				delete from {jobs} j using held h where j.id = h.id
				returning j.id, j.key, j.state
			), freed as (
				select key from gone where state in ('waiting', 'ready')
			), moved as (`, moveUp, `)
			select id, exists (select from moved) from gone`),

		count: sql(`
			with heads as (
				select state, due, enqueued_at from {jobs} where state in ('waiting', 'ready', 'running')
				union all
				select 'new', due, enqueued_at from (
					select distinct on (key) key, due, enqueued_at from {jobs} where state = 'new' order by key, seq
				) n where not exists (select from {jobs} h where h.key = n.key and h.key <> '' and h.state in ('waiting', 'ready', 'running'))
			), claimable as (
				select enqueued_at from heads where state = 'ready' or due <= $1 or state = 'running' and due > $2
			)
			select (select count(*) from claimable), (select min(enqueued_at) from claimable),
				(select count(*) from heads where state = 'running' and due > $1 and due <= $2),
				(select count(*) from {jobs} where state <> 'dead'), (select count(*) from {jobs} where state = 'dead')`),
		list: sql(`select`, columns, `, reason, died from {jobs}
			where state = 'dead' and ($1 = '' or not exists (select from {jobs} where state = 'dead' and id = $1)
				or (died, seq) > (select died, seq from {jobs} where state = 'dead' and id = $1))
			order by died, seq limit $2`),
		revive: sql(`
			with held as materialized (
				select id from {jobs} where id = any($1::text[]) and state = 'dead' order by seq for update
			), numbered as materialized (
				select id, nextval(pg_get_serial_sequence('{jobs}', 'seq')) as seq
				from (select id from unnest($1::text[]) with ordinality as g (id, n) join held using (id) order by n offset 0) g
			)
			update {jobs} j set seq = n.seq, state = case when key = '' then 'ready' else 'new' end,
				rank = rank + $2 - enqueued_at, due = 0, enqueued_at = $2, not_before = null, expires = null,
				attempt = 0, token = token + 1, last_error = '', reason = '', died = null
			from numbered n where j.id = n.id and (select count(*) from held) = $3`),
		erase: sql(`
			with held as materialized (
				select id from {jobs} where id = any($1::text[]) and state = 'dead' order by seq for update
			)
			delete from {jobs} j using held where j.id = held.id`),
	}
}
