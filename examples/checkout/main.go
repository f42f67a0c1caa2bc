// Command checkout is a small shop: it takes money through Stripe, with PayPal
// behind it, and shows beside each order what the journal and the providers know.
//
//	go run ./examples/checkout         # a page in your browser; Ctrl-C ends it
//	go run ./examples/checkout -demo   # plays the whole story by itself, and checks it
//
// Both providers are simulators on loopback ports; adapters, journal, failover,
// webhooks and reconciliation are the real ones. Read main.go for how a Client is
// made, shop.go for what a service does with it, book.go for what it is told.
package main

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"time"

	_ "modernc.org/sqlite" // driver sqlite

	"github.com/smilefactory/integrations/payment"
	"github.com/smilefactory/integrations/payment/paymentsql"
	"github.com/smilefactory/integrations/payment/paypal"
	"github.com/smilefactory/integrations/payment/stripe"
	"github.com/smilefactory/integrations/resilience"
	"github.com/smilefactory/integrations/secret"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Stdout, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "checkout:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, args []string) (err error) {
	flags := flag.NewFlagSet("checkout", flag.ContinueOnError)
	flags.SetOutput(out)
	addr := flags.String("addr", "127.0.0.1:0", "listen on this loopback `address`; port 0 is any free one")
	demo := flags.Bool("demo", false, "play the whole story without a browser, and check it")
	if err := flags.Parse(args); err != nil {
		return err
	}
	s, err := open(ctx, *addr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close(ctx)) }()
	if *demo {
		return play(ctx, out, s)
	}
	fmt.Fprintf(out, "The shop is open at %s (Ctrl-C closes it)\n", s.url)
	<-ctx.Done()
	return nil
}

// shop is the service: a web server, its database, and the payment Client.
type shop struct {
	url    string
	world  *world // the providers, which a real shop doesn't have at hand
	book   *book
	folder string

	// journal is what the Client remembers. The shop only reads it.
	journal *paymentsql.Journal
	pay     *payment.Client

	server  *http.Server
	stop    context.CancelFunc
	running sync.WaitGroup
}

func open(ctx context.Context, addr string) (_ *shop, err error) {
	listener, err := listen(ctx, addr)
	if err != nil {
		return nil, err
	}
	s := &shop{url: "http://" + listener.Addr().String(), stop: func() {}}
	s.world = newWorld(s.url) //nolint:contextcheck // closed by close
	s.server = &http.Server{ReadHeaderTimeout: 5 * time.Second}
	if err = s.openBook(ctx); err == nil {
		err = s.openPay()
	}
	if err != nil {
		return nil, errors.Join(err, listener.Close(), s.close(ctx))
	}
	s.server.Handler = s.handler()

	// What has begun ends though the signal came: close sees to that.
	ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	s.running.Go(func() { _ = s.server.Serve(listener) })
	// Reconcile settles what nobody asks for: a customer who closed his browser, an
	// answer that was lost. Every process of a service may run it.
	s.running.Go(func() { _ = s.pay.Reconcile(ctx, time.Second) })
	return s, nil
}

// listen refuses an address that others can reach: whoever sees the page may break
// the providers.
func listen(ctx context.Context, addr string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("-addr: %w", err)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return nil, errors.New("-addr must be a loopback address, such as 127.0.0.1:8080")
	}
	return new(net.ListenConfig).Listen(ctx, "tcp", addr)
}

// openBook opens the shop's database. The journal has its tables beside the
// shop's own, so that both can be written in one transaction (see book.tell).
func (s *shop) openBook(ctx context.Context) (err error) {
	if s.folder, err = os.MkdirTemp("", "checkout-"); err != nil {
		return err
	}
	file := filepath.ToSlash(filepath.Join(s.folder, "shop.db"))
	db, err := sql.Open("sqlite", "file:"+file+"?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	if err != nil {
		return err
	}
	if s.book, err = openBook(ctx, db); err != nil {
		return errors.Join(err, db.Close())
	}
	s.journal, err = paymentsql.Open(ctx, db)
	return err
}

// openPay makes the Client, as a service would but for the addresses.
func (s *shop) openPay() (err error) {
	primary := stripe.Gateway{
		Key:        secret.Literal(stripeKey), // secret.Env("STRIPE_KEY")
		Webhook:    []secret.Source{secret.Literal(stripeHookSecret)},
		BaseURL:    s.world.stripeHost.URL, // leave it out
		HTTPClient: s.world.client,
	}
	backup := &paypal.Gateway{
		ClientID:   s.world.account.ClientID,
		Secret:     secret.Literal(s.world.account.Secret),
		Sandbox:    true,
		WebhookID:  s.world.payPalHook.ID,
		BaseURL:    s.world.payPalHost.URL,
		HTTPClient: s.world.client,
	}
	s.pay, err = payment.New(primary, payment.WithBackup(backup),
		payment.WithJournal(s.journal), payment.WithHandler(s.book.tell),
		payment.WithPolicy(pace()), payment.WithRules(payment.Rules{CommitWithin: 2 * time.Second}))
	return err
}

// pace is payment.Policy with shorter times, so that you needn't wait. A real
// service leaves it, and the Rules above, out.
func pace() resilience.Policy {
	p := payment.Policy
	p.Timeout, p.Retries = time.Second, 1
	p.Breaker.OpenFor = time.Second / 2
	return p
}

// close ends what has begun, in this order: no new customers, the payments that
// are under way are brought to an end and recorded, then the rest.
func (s *shop) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	err := s.server.Shutdown(ctx)
	s.stop()
	s.running.Wait()
	if s.pay != nil {
		err = errors.Join(err, s.pay.Close(ctx))
	}
	s.world.close()
	if s.book != nil {
		err = errors.Join(err, s.book.db.Close())
	}
	return errors.Join(err, os.RemoveAll(s.folder))
}
