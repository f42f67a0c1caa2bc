package resilience_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"time"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/resilience"
	"github.com/smilefactory/integrations/resilience/cache"
)

// wire is what the providers below share: one request, and what became of it.
type wire struct {
	client *http.Client
	url    string
}

func (w wire) send(ctx context.Context, path string, body io.Reader) (*http.Response, error) {
	traced, latch := fault.Trace(ctx)
	req, err := http.NewRequestWithContext(traced, http.MethodPost, w.url+path, body)
	if err != nil {
		return nil, fault.New(fault.Invalid, err)
	}
	resp, err := w.client.Do(req)
	if err != nil {
		return nil, fault.New(latch.Kind(), err)
	}
	if resp.StatusCode != http.StatusOK {
		_ = resp.Body.Close()
		return nil, fault.New(fault.FromStatus(resp.StatusCode), errors.New(resp.Status))
	}
	return resp, nil
}

func serve(h http.HandlerFunc) (w wire, stop func()) {
	server := httptest.NewServer(h)
	return wire{server.Client(), server.URL}, server.Close
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Model answers piece by piece; the last one says how many tokens it took.
type Model interface {
	Answer(ctx context.Context, prompt string) iter.Seq2[Piece, error]
}

type Piece struct {
	Text   string
	Tokens int
}

// model is the adapter. It knows the wire and package fault, and no limits.
type model struct{ wire }

func (m model) Answer(ctx context.Context, prompt string) iter.Seq2[Piece, error] {
	return func(yield func(Piece, error) bool) {
		resp, err := m.send(ctx, "", strings.NewReader(prompt))
		if err != nil {
			yield(Piece{}, err)
			return
		}
		defer resp.Body.Close()
		lines := bufio.NewScanner(resp.Body)
		for lines.Scan() {
			var p Piece
			switch field, value, _ := strings.Cut(lines.Text(), ": "); field {
			case "": // a comment, which keeps the connection open
				fault.Alive(ctx)
				continue
			case "data":
				p.Text = value
			case "tokens":
				_, _ = fmt.Sscan(value, &p.Tokens)
			}
			if !yield(p, nil) {
				return
			}
		}
		if err := lines.Err(); err != nil {
			yield(Piece{}, fault.New(fault.Uncertain, err))
		}
	}
}

// answer is the method that a Client calls: it tells the limits what was spent.
func answer(m Model, ctx context.Context, prompt string) iter.Seq2[Piece, error] { //nolint:revive // the shape of a method expression
	return func(yield func(Piece, error) bool) {
		for p, err := range m.Answer(ctx, prompt) {
			if p.Tokens > 0 {
				resilience.Spent(ctx, p.Tokens)
			}
			if !yield(p, err) {
				return
			}
		}
	}
}

// The first word takes longer than Silence, which the server's comments show to be
// none. Each call takes from a budget of tokens what it expects to use, and settles
// what it did: the second finds too few.
func ExampleStream_tokens() {
	think := func(w http.ResponseWriter, comments int) {
		for range comments {
			_, _ = io.WriteString(w, ": thinking\n")
			w.(http.Flusher).Flush()
			time.Sleep(50 * time.Millisecond)
		}
	}
	at, stop := serve(func(w http.ResponseWriter, _ *http.Request) {
		think(w, 20)
		_, _ = io.WriteString(w, "data: Hello\n")
		think(w, 2)
		_, _ = io.WriteString(w, "data: world\ntokens: 90\n")
	})
	defer stop()
	policy := resilience.Policy{
		Timeout: time.Minute, Silence: 750 * time.Millisecond,
		Rate: 100.0 / 3600, Burst: 100, // tokens, of which a hundred come back in an hour
	}
	models := must(resilience.New(policy, []resilience.Member[Model]{{Name: "model", Provider: model{at}}}))

	op := resilience.Op{Name: "ai.answer", Safety: fault.AtLeastOnce}
	ctx := resilience.WithCost(context.Background(), 40)
	for range 2 {
		for p, err := range resilience.Stream(ctx, models, op, answer, "Say hello") {
			if f, failed := fault.As(err); failed {
				fmt.Println(f.Err, "for", f.RetryAfter.Round(time.Minute))
				break
			}
			fmt.Printf("%q %d\n", p.Text, p.Tokens)
		}
	}
	// Output:
	// "Hello" 0
	// "world" 0
	// "" 90
	// rate limit reached for 18m0s
}

// Archive keeps files, and answers how many bytes it has got.
type Archive interface {
	Store(ctx context.Context, content io.Reader) (int64, error)
}

type archive struct {
	wire
	room string
}

func (a archive) Store(ctx context.Context, content io.Reader) (n int64, err error) {
	resp, err := a.send(ctx, a.room, content)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if _, err := fmt.Fscan(resp.Body, &n); err != nil {
		return 0, fault.New(fault.Uncertain, err)
	}
	return n, nil
}

// film gives its content in pieces, as slowly as it is made.
type film struct{ *bytes.Reader }

func (f film) Read(p []byte) (int, error) {
	time.Sleep(100 * time.Millisecond)
	return f.Reader.Read(p[:min(len(p), 10)])
}

// An upload may take longer than Timeout, which limits how long a provider takes
// until it begins to read, and once it has read all. One that never answers then is
// given up.
func ExampleUpload_overHTTP() {
	at, stop := serve(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/deaf" {
			<-r.Context().Done()
			return
		}
		fmt.Fprint(w, n)
	})
	defer stop()
	policy := resilience.Policy{Timeout: 400 * time.Millisecond, Silence: 10 * time.Second}
	archives := must(resilience.New(policy, []resilience.Member[Archive]{
		{Name: "good", Provider: archive{at, "/good"}}, {Name: "deaf", Provider: archive{at, "/deaf"}},
	}))

	op := resilience.Op{Name: "archive.store", Safety: fault.Idempotent}
	store := func(ctx context.Context, content io.Reader) (int64, error) {
		return resilience.Upload(ctx, archives, op, content, func(ctx context.Context, a Archive, content io.Reader) (int64, error) {
			return a.Store(ctx, content)
		})
	}
	start, data := time.Now(), make([]byte, 70)
	n, err := store(context.Background(), film{bytes.NewReader(data)})
	fmt.Println(n, err, time.Since(start) > policy.Timeout)
	_, err = store(resilience.Pin(context.Background(), "deaf"), bytes.NewReader(data))
	fmt.Println(fault.KindOf(err), errors.Is(err, resilience.ErrTimeout))
	// Output:
	// 70 <nil> true
	// uncertain true
}

// Ledger keeps entries.
type Ledger interface {
	Append(ctx context.Context, entry string) (*Entry, error)
}

// Entry is told by Call who has it.
type Entry struct{ where string }

func (e *Entry) Answered(provider string, attempts int) {
	e.where = fmt.Sprintf("%s in attempt %d", provider, attempts)
}

type ledger struct {
	wire
	name string
}

func (l ledger) Append(ctx context.Context, entry string) (*Entry, error) {
	resp, err := l.send(ctx, "/"+l.name, strings.NewReader(entry))
	if err != nil {
		return nil, err
	}
	return &Entry{}, resp.Body.Close()
}

// ledgers is a Client: a Ledger made of Ledgers, which shows that by the Group that
// it embeds.
type ledgers struct{ *resilience.Group[Ledger] }

func (l ledgers) Append(ctx context.Context, entry string) (*Entry, error) {
	op := resilience.Op{Name: "ledger.append", Safety: fault.Idempotent}
	return resilience.Call(ctx, l.Group, op, Ledger.Append, entry)
}

// A write to every member, each pinned to its own. The member that is a Client has a
// backup inside; the write that is meant for one member never goes to another.
func ExampleControl_Members() {
	at, stop := serve(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/eu-1" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	defer stop()
	member := func(name string, l Ledger) resilience.Member[Ledger] {
		return resilience.Member[Ledger]{Name: name, Provider: l}
	}
	client := func(members ...resilience.Member[Ledger]) ledgers {
		return ledgers{must(resilience.New(resilience.Policy{}, members))}
	}
	europe := client(member("eu-1", ledger{at, "eu-1"}), member("eu-2", ledger{at, "eu-2"}))
	all := client(member("eu", europe), member("us", ledger{at, "us"}))

	for _, path := range all.Members() {
		entry, err := all.Append(resilience.Pin(context.Background(), path), "42")
		if err != nil {
			fmt.Println(path, err)
			continue
		}
		fmt.Println(entry.where)
	}
	// Output:
	// eu/eu-2 in attempt 2
	// us in attempt 1
}

// Network posts what users write.
type Network interface {
	Post(ctx context.Context, user string) (string, error)
}

type network struct{ wire }

func (n network) Post(ctx context.Context, user string) (string, error) {
	resp, err := n.send(ctx, "/"+user, http.NoBody)
	if f, ok := fault.As(err); ok && f.Kind == fault.Denied {
		f.Account = true // it is this user's token, not ours
	}
	if err != nil {
		return "", err
	}
	return "posted", resp.Body.Close()
}

// A thousand users, one of whom has revoked access. The breaker of their key opens;
// that of the provider stays closed, and nobody else is refused.
func ExampleWithKey() {
	at, stop := serve(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/user-7" {
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	defer stop()
	breaker := resilience.Breaker{InARow: 3, OpenFor: time.Hour}
	policy := resilience.Policy{Timeout: time.Minute, Breaker: breaker, PerKey: &resilience.Policy{Breaker: breaker}}
	tell := resilience.ObserverFunc(func(_ context.Context, e resilience.Event) {
		if e.Type == resilience.StateChanged {
			fmt.Println("the breaker of", e.Key, "is", e.To)
		}
	})
	networks := must(resilience.New(policy, []resilience.Member[Network]{{Name: "network", Provider: network{at}}}, tell))

	post := func(user string) error {
		ctx := resilience.WithKey(context.Background(), user)
		_, err := resilience.Call(ctx, networks, resilience.Op{Name: "social.post"}, Network.Post, user)
		return err
	}
	for range 4 {
		fmt.Println(post("user-7"))
	}
	served := 0
	for n := range 1000 {
		if post(fmt.Sprint("user-", n)) == nil {
			served++
		}
	}
	fmt.Println(served, "were served; the provider is", networks.Inspect()[0].State)
	// Output:
	// social.post: network: denied: 401 Unauthorized
	// social.post: network: denied: 401 Unauthorized
	// the breaker of user-7 is open
	// social.post: network: denied: 401 Unauthorized
	// social.post: network: unavailable: circuit breaker is open, retry after 1h0m0s
	// 999 were served; the provider is closed
}

// Exchange knows prices.
type Exchange interface {
	Price(ctx context.Context, currency string) (float64, error)
}

type exchange struct{ wire }

func (e exchange) Price(ctx context.Context, currency string) (price float64, err error) {
	resp, err := e.send(ctx, "/"+currency, http.NoBody)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = fmt.Fscan(resp.Body, &price)
	return price, err
}

// kept makes a cache.Cache a [resilience.Cache].
type kept struct{ *cache.Cache[float64] }

func (k kept) Do(ctx context.Context, op resilience.Op, key string, fn func(context.Context) (float64, error)) (resilience.Answer[float64], error) {
	a, err := k.Cache.Do(ctx, op, key, fn)
	return a, err
}

// A new price, else that of another exchange, else the one that was kept.
func ExampleLadder() {
	op := resilience.Op{Name: "prices.price", Safety: fault.Read}
	var down [2]atomic.Bool
	var ask [2]func(context.Context) (float64, error)
	for i, price := range []float64{1.1, 1.2} {
		at, stop := serve(func(w http.ResponseWriter, _ *http.Request) {
			if down[i].Load() {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			fmt.Fprint(w, price)
		})
		defer stop()
		g := must(resilience.New(resilience.Policy{}, []resilience.Member[Exchange]{{Name: fmt.Sprint("market-", i), Provider: exchange{at}}}))
		ask[i] = func(ctx context.Context) (float64, error) { return resilience.Call(ctx, g, op, Exchange.Price, "EUR") }
	}
	prices := kept{must(cache.New(cache.Config[float64]{TTL: time.Millisecond, Stale: time.Hour}))}

	for i := range 3 {
		a, err := resilience.Ladder(context.Background(), prices, op, "EUR", ask[0], ask[1])
		fmt.Println(a.Value, a.Stale, a.Err, err)
		if i < len(down) {
			down[i].Store(true)
			time.Sleep(2 * time.Millisecond) // past TTL
		}
	}
	// Output:
	// 1.1 false <nil> <nil>
	// 1.2 false prices.price: market-0: uncertain: 503 Service Unavailable <nil>
	// 1.1 true prices.price: market-0: uncertain: 503 Service Unavailable <nil>
}
