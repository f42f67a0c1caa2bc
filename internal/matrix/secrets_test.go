package matrix_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	sdk "github.com/stripe/stripe-go/v76"
	_ "modernc.org/sqlite"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/sim"
	paypalsim "github.com/smilefactory/integrations/internal/sim/paypal"
	stripesim "github.com/smilefactory/integrations/internal/sim/stripe"
	"github.com/smilefactory/integrations/payment"
	"github.com/smilefactory/integrations/payment/paymentsql"
	"github.com/smilefactory/integrations/payment/paypal"
	"github.com/smilefactory/integrations/payment/stripe"
	"github.com/smilefactory/integrations/resilience"
	"github.com/smilefactory/integrations/secret"
)

// What is planted, and where it may be: PLANTED is in keys, secrets and what is
// personal, and goes nowhere but to the provider; PRIVATE is in an order's
// description and return address, which the journal keeps, and nothing else.
const (
	plantedKey    = "sk_test_PLANTEDkey"
	plantedPass   = "PLANTEDpassword"
	plantedHook   = "whsec_PLANTEDhook"
	plantedCard   = "4242424242424242"
	privateText   = "PRIVATE note"
	privateReturn = "https://shop.example.com/paid?login=PRIVATElogin"
)

var (
	leaks = regexp.MustCompile(`PLANTED|_secret_|A21AA[A-Za-z0-9]{20}|4242[ -]?4242[ -]?4242[ -]?4242|` + inBase64("PLANTED"))
	// private is what the journal may keep.
	private = regexp.MustCompile(`PRIVATE|` + inBase64("PRIVATE"))
)

// inBase64 is the pattern of a word in base64, wherever it stands in what was
// encoded.
func inBase64(word string) string {
	var all []string
	for i := range 3 {
		coded := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("-", i) + word))
		whole := (i + len(word)) / 3 * 4 // what follows changes the last characters
		all = append(all, regexp.QuoteMeta(coded[(i*8+5)/6:whole]))
	}
	return strings.Join(all, "|")
}

// dragnet searches all that a service can see or keep of payments.
type dragnet struct {
	mu     sync.Mutex
	looked int
	seen   map[[sha256.Size]byte]bool // values that were printed before
	found  map[string]string          // a piece of the text by where it was
}

func (d *dragnet) search(where string, data []byte, forms ...*regexp.Regexp) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.looked++
	for _, form := range forms {
		if at := form.FindIndex(data); at != nil {
			from, to := max(0, at[0]-120), min(len(data), at[1]+60)
			d.found[where+", "+form.FindString(string(data))] = string(data[from:to])
		}
	}
}

func (d *dragnet) text(where string, data []byte) { d.search(where, data, leaks, private) }

// known reports whether the same was printed before.
func (d *dragnet) known(v any) bool {
	key := sha256.Sum256(ids.ReplaceAll(fmt.Appendf(nil, "%T %v %#v", v, v, v), nil))
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.seen[key] {
		return true
	}
	if d.seen == nil {
		d.seen = map[[sha256.Size]byte]bool{}
	}
	d.seen[key] = true
	return false
}

// ids are what differs in values that are alike.
var ids = regexp.MustCompile(`order-\d+|setup-\d+|0x[0-9a-f]+|\b(pi|ch|re|req|evt|seti|cus|pm)_[A-Z0-9]{24}|127\.0\.0\.1:\d+`)

// value writes a value in all ways in which it may come into a log.
func (d *dragnet) value(where string, v any) {
	if d.known(v) {
		return
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		d.text(where+" as "+verb, fmt.Appendf(nil, verb, v))
	}
	if data, err := json.Marshal(v); err == nil {
		d.text(where+" as JSON", data)
	}
	var log bytes.Buffer
	for _, h := range []slog.Handler{slog.NewJSONHandler(&log, nil), slog.NewTextHandler(&log, nil)} {
		slog.New(h).Info("payment", "value", v, slog.Group("of", "value", v))
	}
	d.text(where+" in a log", log.Bytes())
}

// fails looks at an error and all that is behind it.
func (d *dragnet) fails(where string, err error) {
	if err == nil {
		return
	}
	d.value(where, err)
	if f, ok := errors.AsType[*fault.Error](err); ok {
		d.value(where+": fault", *f)
		for _, tried := range f.Tried {
			d.fails(where+": tried", tried)
		}
	}
	if e, ok := errors.AsType[*stripe.Error](err); ok {
		d.value(where+": Stripe's", *e)
	}
	if e, ok := errors.AsType[*paypal.Error](err); ok {
		d.value(where+": PayPal's", *e)
	}
	if e, ok := errors.AsType[*sdk.Error](err); ok {
		d.value(where+": the SDK's", *e)
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		d.value(where+": a URL's", *e)
	}
	switch e := err.(type) { //nolint:errorlint // each layer is looked at by itself
	case interface{ Unwrap() error }:
		d.fails(where+" ›", e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			d.fails(where+" ›", inner)
		}
	}
}

func (d *dragnet) result(where string, r *payment.Result, err error) {
	d.fails(where, err)
	if r == nil {
		return
	}
	d.value(where+": result", r)
	d.value(where+": result", *r)
	if r.Action != nil {
		d.value(where+": action", r.Action)
		d.value(where+": action", *r.Action)
	}
	if r.Decline != nil {
		d.value(where+": decline", *r.Decline)
	}
	for _, s := range r.Skipped {
		d.fails(where+": skipped", s.Reason)
	}
}

func (d *dragnet) event(e payment.Event) {
	where := "event " + string(e.Type)
	d.value(where, e)
	d.result(where, e.Result, e.Err)
	if e.Hint != nil {
		d.value(where+": hint", *e.Hint)
	}
	if e.Refund != nil {
		d.value(where+": refund", *e.Refund)
	}
}

// tap is the wire. It adds to the answers what real ones have of the customer, and
// spoils some.
type tap struct {
	http.RoundTripper

	mu    sync.Mutex
	spoil spoiler
	nth   int // of the requests that follow; 0: each
	seen  int
}

// spoiler changes an answer; resp is nil where the request is not to be sent.
type spoiler struct {
	unsent bool
	change func(r *http.Request, sent []byte, resp *http.Response, got []byte) (*http.Response, error)
}

func (p *tap) plan(s spoiler, nth int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.spoil, p.nth, p.seen = s, nth, 0
}

func (p *tap) RoundTrip(r *http.Request) (*http.Response, error) {
	sent := []byte{}
	if r.Body != nil {
		var err error
		if sent, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		r.Body.Close()
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(sent))
	}
	p.mu.Lock()
	p.seen++
	s := p.spoil
	if s.change == nil || p.nth != 0 && p.seen != p.nth {
		s = spoiler{}
	}
	p.mu.Unlock()
	if s.unsent {
		return s.change(r, sent, nil, nil)
	}
	resp, err := p.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	got, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		return nil, err
	}
	got = personal(got)
	if s.change != nil {
		return s.change(r, sent, resp, got)
	}
	return rewritten(resp, got), nil
}

func rewritten(resp *http.Response, body []byte) *http.Response {
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	resp.Header.Del("Content-Length")
	return resp
}

// personal adds to an answer what a real one knows of the customer.
func personal(body []byte) []byte {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var tree any
	if d.Decode(&tree) != nil {
		return body
	}
	if order, ok := tree.(map[string]any); ok && order["purchase_units"] != nil {
		order["payer"] = personalPayer()
	}
	personalize(tree)
	data, err := json.Marshal(tree)
	if err != nil {
		panic(err) // it came from JSON
	}
	return data
}

func personalPayer() map[string]any {
	return map[string]any{
		"name": map[string]any{"given_name": "PLANTED", "surname": "PLANTED"}, "email_address": "PLANTED@example.com", "payer_id": "PLANTEDPAYER2",
		"phone": map[string]any{"phone_number": map[string]any{"national_number": "4242424242424242"}}, "address": personalAddress(),
	}
}

func personalAddress() map[string]any {
	return map[string]any{"address_line_1": "1 PLANTED street", "line1": "1 PLANTED street", "city": "PLANTED", "postal_code": "PLANTED", "country_code": "US"}
}

func personalize(tree any) {
	switch v := tree.(type) {
	case []any:
		for _, inner := range v {
			personalize(inner)
		}
	case map[string]any:
		for key, inner := range v {
			personalize(inner)
			switch key {
			case "email_address", "receipt_email", "email":
				v[key] = "PLANTED@example.com"
			case "given_name", "surname", "fingerprint", "user_name", "cardholder_name":
				v[key] = "PLANTED"
			case "billing_details":
				v[key] = map[string]any{"name": "PLANTED", "email": "PLANTED@example.com", "phone": "PLANTED", "address": personalAddress()}
			case "shipping":
				v[key] = map[string]any{"name": "PLANTED", "address": personalAddress()}
			}
		}
	}
}

// echo is all that a careless server could send back, and more.
func echo(r *http.Request, sent, got []byte) string {
	form, _ := url.QueryUnescape(string(sent))
	return strings.Join([]string{
		"you sent", r.URL.String(), string(sent), form, r.Header.Get("Authorization"), plantedKey, "Bearer " + plantedKey, "pi_1_secret_PLANTED",
		"seti_1_secret_PLANTED", plantedHook, "PLANTED@example.com", plantedCard, "4242 4242 4242 4242", "4242-4242-4242-4242", string(got),
	}, " ")
}

// refusing answers with a status and a provider's own form of an error, whose texts
// echo the request.
func refusing(status int, code string) spoiler {
	return spoiler{change: func(r *http.Request, sent []byte, _ *http.Response, got []byte) (*http.Response, error) {
		said := echo(r, sent, nil)
		body := map[string]any{
			"name": code, "message": said, "debug_id": "d1", "error_description": said,
			"details": []any{map[string]any{"issue": code, "description": said, "value": said, "field": said}},
			"links":   []any{map[string]any{"href": "https://www.paypal.com/?secret=PLANTED", "rel": "information_link"}},
		}
		body["error"] = strings.ToLower(code)
		if strings.HasPrefix(r.URL.Path, "/v1/") && !strings.HasPrefix(r.URL.Path, "/v1/oauth2") && !strings.HasPrefix(r.URL.Path, "/v1/notifications") {
			kind := map[int]string{400: "invalid_request_error", 402: "card_error", 500: "api_error", 409: "idempotency_error"}[status]
			stripes := map[string]any{
				"type": kind, "code": strings.ToLower(code), "decline_code": said, "message": said, "param": said, "request_log_url": said,
				"payment_method": map[string]any{"id": "pm_1", "object": "payment_method", "billing_details": map[string]any{"name": "PLANTED"}},
			}
			var intent map[string]any
			if json.Unmarshal(got, &intent) == nil && intent["object"] == "payment_intent" {
				stripes["payment_intent"] = intent
			}
			body = map[string]any{"error": stripes}
		}
		data, err := json.Marshal(body)
		return instead(r, status, "application/json", data), err
	}}
}

func instead(r *http.Request, status int, contentType string, body []byte) *http.Response {
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{"Content-Type": {contentType}}, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
	}
}

// bodied answers with another body.
func bodied(status int, contentType string, body func(echo string, got []byte) string) spoiler {
	return spoiler{change: func(r *http.Request, sent []byte, resp *http.Response, got []byte) (*http.Response, error) {
		if status == 0 {
			return rewritten(resp, []byte(body(echo(r, sent, got), got))), nil
		}
		return instead(r, status, contentType, []byte(body(echo(r, sent, got), got))), nil
	}}
}

// spoilers are the faults, by name.
func spoilers() map[string]spoiler {
	all := map[string]spoiler{
		"no fault":           {},
		"declined":           refusing(402, "CARD_DECLINED"),
		"another form":       refusing(422, "PAYER_ACTION_REQUIRED"),
		"key in use":         refusing(409, "IDEMPOTENCY_KEY_IN_USE"),
		"unexpected state":   refusing(400, "PAYMENT_INTENT_UNEXPECTED_STATE"),
		"code of an echo":    refusing(400, "PLANTED pi_1_secret_PLANTED"),
		"HTML of a proxy":    bodied(502, "text/html", func(e string, _ []byte) string { return "<html>" + e + "</html>" }),
		"HTML of status 200": bodied(200, "text/html", func(e string, _ []byte) string { return "<html>" + e + "</html>" }),
		"text of status 400": bodied(400, "text/plain", func(e string, _ []byte) string { return e }),
		"text of status 401": bodied(401, "text/plain", func(e string, _ []byte) string { return e }),
		"truncated":          bodied(0, "", func(_ string, got []byte) string { return string(got[:len(got)*2/3]) }),
		"other types": bodied(0, "", func(_ string, got []byte) string {
			return strings.NewReplacer(`"amount":`, `"amount":"PLANTED","was":`, `"purchase_units":[`, `"purchase_units":["PLANTED",`,
				`"access_token":`, `"expires_in":"PLANTED","access_token":`).Replace(string(got))
		}),
		"null":         bodied(200, "application/json", func(string, []byte) string { return "null" }),
		"an empty one": bodied(200, "application/json", func(string, []byte) string { return "{}" }),
		"other words": bodied(0, "", func(_ string, got []byte) string {
			return regexp.MustCompile(`"(status|currency|currency_code|state)":"[^"]*"`).ReplaceAllString(string(got), `"$1":"PLANTED pi_1_secret_PLANTED"`)
		}),
		"a redirect": {change: func(r *http.Request, _ []byte, _ *http.Response, _ []byte) (*http.Response, error) {
			resp := instead(r, 302, "text/html", []byte("PLANTED"))
			resp.Header.Set("Location", "https://user:PLANTED@example.com/?key="+plantedKey)
			return resp, nil
		}},
		"reset before it acts": {unsent: true, change: func(*http.Request, []byte, *http.Response, []byte) (*http.Response, error) {
			return nil, &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
		}},
		"reset after it acted": {change: func(*http.Request, []byte, *http.Response, []byte) (*http.Response, error) {
			return nil, &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
		}},
		"breaks off": {change: func(_ *http.Request, _ []byte, resp *http.Response, got []byte) (*http.Response, error) {
			resp.Body = io.NopCloser(io.MultiReader(bytes.NewReader(got[:len(got)/2]), brokenReader{}))
			return resp, nil
		}},
		"no answer in time": {change: func(r *http.Request, _ []byte, _ *http.Response, _ []byte) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		}},
	}
	for _, status := range []int{400, 401, 403, 404, 409, 410, 422, 424, 429, 500, 501, 503} {
		all[fmt.Sprint("status ", status)] = refusing(status, "INVALID_REQUEST")
	}
	return all
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// till is a service with both providers, whose every word is searched.
type till struct {
	t       *testing.T
	net     *dragnet
	stripe  *stripesim.Sim
	paypal  *paypalsim.Sim
	hook    paypalsim.Webhook
	wires   map[string]*tap
	ends    map[string]*sim.Host
	journal *paymentsql.Journal
	folder  string
	ahead   atomic.Int64 // of the Client's clock
	orders  atomic.Int64

	pay *payment.Client // of the flow that runs
}

func openTill(t *testing.T) *till {
	t.Helper()
	x := &till{t: t, net: &dragnet{found: map[string]string{}}, folder: t.TempDir(), wires: map[string]*tap{}, ends: map[string]*sim.Host{}}
	x.stripe = stripesim.New(stripesim.Config{Keys: []string{plantedKey}})
	account := paypalsim.DefaultAccount
	account.Secret = plantedPass
	x.paypal = paypalsim.New(paypalsim.Config{Accounts: []paypalsim.Account{account}})
	for name, h := range map[string]http.Handler{"stripe": x.stripe, "paypal": x.paypal} {
		host := sim.NewHost(h, false)
		t.Cleanup(host.Close)
		x.ends[name], x.wires[name] = host, &tap{RoundTripper: host.Client().Transport}
	}
	t.Cleanup(x.paypal.Close)
	t.Cleanup(x.stripe.Faults.Close)
	x.paypal.SetBaseURL(x.ends["paypal"].URL)
	x.hook = x.paypal.AddWebhook(account.ClientID, "http://127.0.0.1/hooks/paypal")
	db, err := sql.Open("sqlite", "file:"+filepath.Join(x.folder, "journal.db")+"?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	x.journal, err = paymentsql.Open(t.Context(), db)
	require.NoError(t, err)
	return x
}

func (x *till) now() time.Time { return time.Now().Add(time.Duration(x.ahead.Load())) }

// open makes a Client, whose Gateways have no token yet and whose breakers are shut.
func (x *till) open() {
	x.t.Helper()
	card := stripe.Gateway{
		Key: secret.Literal(plantedKey), Webhook: []secret.Source{secret.Literal(plantedHook)}, BaseURL: x.ends["stripe"].URL,
		HTTPClient: &http.Client{Transport: x.wires["stripe"]},
	}
	wallet := &paypal.Gateway{
		ClientID: paypalsim.DefaultAccount.ClientID, Secret: secret.Literal(plantedPass), Sandbox: true, WebhookID: x.hook.ID, Shipping: true,
		BaseURL: x.ends["paypal"].URL, HTTPClient: &http.Client{Transport: x.wires["paypal"]},
	}
	policy := resilience.Policy{Timeout: 100 * time.Millisecond, Total: 300 * time.Millisecond, Retries: 1, Backoff: resilience.Backoff{Initial: time.Millisecond}}
	var err error
	x.pay, err = payment.New(card, payment.WithBackup(wallet), payment.WithJournal(x.journal), payment.WithPolicy(policy),
		payment.WithRules(payment.Rules{Now: x.now, CommitWithin: 100 * time.Millisecond, Join: 50 * time.Millisecond}),
		payment.WithHandler(func(_ context.Context, e payment.Event) error { x.net.event(e); return nil }),
		payment.WithObserver(resilience.ObserverFunc(func(_ context.Context, e resilience.Event) {
			e.Time, e.Duration, e.Delay = time.Time{}, 0, 0
			x.net.value("observer", e)
			x.net.fails("observer", e.Err)
		})))
	require.NoError(x.t, err)
	x.t.Cleanup(func() {
		x.net.value("Gateway", card)
		x.net.value("Gateway", wallet)
	})
}

func (x *till) close() {
	x.net.value("Client", x.pay)
	x.net.value("Client", x.pay.Inspect())
	require.NoError(x.t, x.pay.Close(context.Background()))
}

func (x *till) order(method payment.Method, change ...func(*payment.Order)) *payment.Order {
	o := &payment.Order{
		ID: fmt.Sprint("order-", x.orders.Add(1)), User: "user-42", Amount: payment.Money{Minor: 1999, Currency: payment.USD},
		ReturnURL: privateReturn, CancelURL: privateReturn, Description: privateText, Providers: []string{"stripe"},
	}
	if method != (payment.Method{}) {
		o.Methods = map[string]payment.Method{"stripe": method, "paypal": method}
	}
	for _, c := range change {
		c(o)
	}
	return o
}

func atPayPal(o *payment.Order) { o.Providers = []string{"paypal"} }
func anywhere(o *payment.Order) { o.Providers = nil }
func onHold(o *payment.Order)   { o.Hold = true }

func (x *till) charge(o *payment.Order) *payment.Result {
	r, err := x.pay.Charge(x.t.Context(), o)
	x.net.result("charge", r, err)
	if r == nil {
		return &payment.Result{}
	}
	return r
}

func (x *till) resume(o *payment.Order) {
	r, err := x.pay.Resume(x.t.Context(), o.ID)
	x.net.result("resume", r, err)
}

func (x *till) capture(o *payment.Order, minor int64) {
	r, err := x.pay.Capture(x.t.Context(), o.ID, payment.Money{Minor: minor, Currency: payment.USD})
	x.net.result("capture", r, err)
}

func (x *till) void(o *payment.Order) {
	r, err := x.pay.Void(x.t.Context(), o.ID)
	x.net.result("void", r, err)
}

func (x *till) refund(o *payment.Order, id string, minor int64) {
	r, err := x.pay.Refund(x.t.Context(), o.ID, id, payment.Money{Minor: minor, Currency: payment.USD})
	x.net.fails("refund", err)
	if r != nil {
		x.net.value("refund", *r)
	}
}

// vault is a method that the customer saved at PayPal.
func (x *till) vault(kind string, o paypalsim.Outcome) payment.Method {
	id, err := x.paypal.SaveMethod(paypalsim.DefaultAccount.ClientID, "customer1", kind, o)
	require.NoError(x.t, err)
	if kind != "paypal" {
		id = kind + ":" + id
	}
	return payment.Method{ID: id}
}

var visa = payment.Method{ID: "pm_card_visa"}

// flows are all that is done with payments, by name.
var flows = map[string]func(x *till){
	"a charge and its refunds": func(x *till) {
		o := x.order(visa)
		x.charge(o)
		x.refund(o, "r-1", 500)
		x.refund(o, "r-1", 500)
		x.resume(o)
		x.refund(o, "r-2", 5000)
	},
	"a decline and another card": func(x *till) {
		o := x.order(payment.Method{ID: "pm_card_visa_chargeDeclinedInsufficientFunds"})
		x.charge(o)
		o.Methods["stripe"] = payment.Method{ID: "tok_visa"}
		x.charge(o)
	},
	"a failover": func(x *till) {
		o := x.order(visa, anywhere)
		o.Methods["paypal"] = x.vault("card", paypalsim.Outcome{Status: "DECLINED", Code: "5120"})
		x.charge(o)
		x.resume(o)
	},
	"3-D Secure": func(x *till) {
		o := x.order(payment.Method{ID: "pm_card_threeDSecure2Required"})
		r := x.charge(o)
		if r.Action != nil {
			r.Action.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil)) // for the customer
			_ = x.stripe.Authenticate(r.PaymentID, true)
		}
		x.resume(o)
	},
	"Stripe's form, given up": func(x *till) {
		o := x.order(payment.Method{})
		x.charge(o)
		x.void(o)
		x.charge(o)
	},
	"nobody there": func(x *till) {
		o := x.order(payment.Method{ID: "pm_card_authenticationRequired", Customer: "cus_none"}, func(o *payment.Order) { o.Presence = payment.MerchantInitiated })
		x.charge(o)
		x.resume(o)
	},
	"a hold at Stripe": func(x *till) {
		o, other := x.order(visa, onHold), x.order(visa, onHold)
		x.charge(o)
		x.capture(o, 500)
		x.charge(other)
		x.void(other)
	},
	"a hold at PayPal": func(x *till) {
		o, other := x.order(x.vault("paypal", paypalsim.Outcome{}), atPayPal, onHold), x.order(x.vault("card", paypalsim.Outcome{}), atPayPal, onHold)
		x.charge(o)
		x.capture(o, 500)
		x.charge(other)
		x.void(other)
	},
	"PayPal's page": func(x *till) {
		o := x.order(payment.Method{}, atPayPal, func(o *payment.Order) { o.Save = payment.OnSession })
		if r := x.charge(o); r.PaymentID != "" {
			_, _ = x.paypal.Approve(r.PaymentID, paypalsim.Outcome{})
		}
		x.resume(o)
		x.refund(o, "r-1", 500)
	},
	"a decline at PayPal": func(x *till) {
		x.charge(x.order(x.vault("card", paypalsim.Outcome{Issue: "INSTRUMENT_DECLINED"}), atPayPal))
		x.charge(x.order(x.vault("card", paypalsim.Outcome{Status: "PENDING", Reason: "ECHECK"}), atPayPal))
	},
	"the wallet at Stripe": func(x *till) {
		x.wallet("stripe", &payment.Setup{ID: fmt.Sprint("setup-", x.orders.Add(1)), User: "user-42", Method: "tok_visa", OffSession: true, ReturnURL: privateReturn})
		x.wallet("stripe", &payment.Setup{ID: fmt.Sprint("setup-", x.orders.Add(1)), Method: "pm_card_threeDSecure2Required", ReturnURL: privateReturn})
		x.wallet("stripe", &payment.Setup{ID: fmt.Sprint("setup-", x.orders.Add(1))})
	},
	"the wallet at PayPal": func(x *till) {
		x.wallet("paypal", &payment.Setup{ID: fmt.Sprint("setup-", x.orders.Add(1)), ReturnURL: privateReturn, CancelURL: privateReturn})
	},
	"webhooks":  (*till).webhooks,
	"reconcile": (*till).reconcile,
}

func (x *till) wallet(provider string, s *payment.Setup) {
	w, err := x.pay.Wallet(provider)
	require.NoError(x.t, err)
	ctx := x.t.Context()
	made, err := w.SetupPaymentMethod(ctx, s)
	x.net.fails("setup", err)
	method, customer := "pm_card_visa", "cus_none"
	if made != nil {
		x.net.value("setup", *made)
		if made.Action != nil {
			x.net.value("setup: action", *made.Action)
			if provider == "paypal" {
				_, _ = x.paypal.Approve(made.ID, paypalsim.Outcome{})
			} else {
				_ = x.stripe.Authenticate(made.ID, true)
			}
		}
		if customer = made.Customer; provider == "paypal" {
			method = made.ID
		}
	}
	if kept, err := w.Attach(ctx, customer, method); err != nil {
		x.net.fails("attach", err)
	} else {
		x.net.value("attach", *kept)
		method = kept.ID
	}
	all, err := w.SavedMethods(ctx, customer)
	x.net.fails("saved methods", err)
	x.net.value("saved methods", all)
	x.net.fails("default", w.SetDefault(ctx, customer, method))
	x.net.fails("detach", w.Detach(ctx, customer, method))
	x.net.fails("detach", w.Detach(ctx, customer, method))
}

// hooked sends an event to the Client's handler and reads the whole answer.
func (x *till) hooked(provider string, header http.Header, body []byte) {
	mux := http.NewServeMux()
	mux.Handle("POST /hooks/{provider...}", x.pay.Webhooks())
	r := httptest.NewRequestWithContext(x.t.Context(), http.MethodPost, "/hooks/"+provider, bytes.NewReader(body))
	r.Header = header
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	answer, err := httputil.DumpResponse(w.Result(), true)
	require.NoError(x.t, err)
	x.net.text("answer to a webhook", answer)
}

func (x *till) webhooks() {
	o, bought := x.order(visa), x.order(x.vault("paypal", paypalsim.Outcome{}), atPayPal)
	x.charge(o)
	x.refund(o, "r-1", 500)
	x.charge(bought)
	stripes := func(body []byte, key string) {
		x.hooked("stripe", http.Header{"Stripe-Signature": {stripesim.Signature(body, key, time.Now())}}, body)
	}
	for _, e := range x.stripe.Pending() {
		body := personal(e.Payload)
		stripes(body, plantedHook)
		stripes(body, "whsec_other")
		stripes(body[:len(body)/2], plantedHook)
		foreign := regexp.MustCompile(`"metadata":\{[^}]*\}`).ReplaceAll(body, []byte(`"metadata":{"order_id":"order-none","attempt":"1"}`))
		stripes(foreign, plantedHook) // not there yet
		stripes(regexp.MustCompile(`"created":\d+`).ReplaceAll(foreign, []byte(`"created":1`)), plantedHook)
	}
	x.stripe.Drop(x.stripe.Pending()...)
	for _, e := range x.paypal.Events() {
		if !bytes.Contains(e.Body, []byte(bought.ID)) {
			continue
		}
		body := personal(e.Body)
		x.hooked("paypal", x.paypal.Sign(x.hook.ID, body), body)
		x.hooked("paypal", x.paypal.Sign("other", body), body)
		x.hooked("paypal", x.paypal.Sign(x.hook.ID, body[:len(body)/2]), body[:len(body)/2])
		x.hooked("paypal", x.paypal.SignAt(x.hook.ID, body, time.Now(), "https://user:PLANTED@example.com/cert?key=PLANTED"), body)
	}
	x.hooked("PLANTED", http.Header{}, []byte("PLANTED"))
}

// reconcile looks after what the flows before have left, two hours and a day later.
func (x *till) reconcile() {
	x.charge(x.order(payment.Method{}))
	x.charge(x.order(visa, onHold))
	for range 2 {
		x.ahead.Add(int64(13 * time.Hour))
		_, err := x.pay.ReconcileOnce(x.t.Context())
		x.net.fails("reconcile", err)
	}
	x.ahead.Store(0)
}

// run runs a flow, with a fault at the nth request to each provider; 0 is at each.
func (x *till) run(name string, s spoiler, nth int) {
	x.open()
	for _, w := range x.wires {
		w.plan(s, nth)
	}
	defer func() {
		for _, w := range x.wires {
			w.plan(spoiler{}, 0)
		}
		if p := recover(); p != nil {
			x.net.value("panic", p)
			x.t.Errorf("%s: panic: %v\n%s", name, p, debug.Stack())
		}
		x.close()
	}()
	flows[name](x)
}

// books searches the journal's files. They keep an order's description and its
// return address.
func (x *till) books() {
	files, err := filepath.Glob(filepath.Join(x.folder, "*"))
	require.NoError(x.t, err)
	whole := false
	for _, f := range files {
		data, err := os.ReadFile(f)
		require.NoError(x.t, err)
		x.net.search(filepath.Base(f), data, leaks)
		whole = whole || private.Match(data)
	}
	assert.True(x.t, whole, "the journal's files were not read: what it keeps isn't in them")
}

// What is secret or of the customer's is nowhere but where it belongs: in what is
// sent to the provider, and in what NextAction writes to the customer.
func TestNoSecretIsInAnErrorALogAnEventOrTheJournal(t *testing.T) {
	t.Parallel()
	faults, names := spoilers(), slices.Sorted(maps.Keys(flows))
	for i, fault := range slices.Sorted(maps.Keys(faults)) {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			x := openTill(t)
			for j, name := range names {
				for nth := range hitRequests {
					if *full || nth == (i+j)/6%hitRequests && (i+j)%6 == 0 { // else a sixth of the flows with each fault, at one request
						x.run(name, faults[fault], nth)
					}
				}
			}
			x.books()
			for where, piece := range x.net.found {
				t.Errorf("%s: %q", where, piece)
			}
			assert.Greater(t, x.net.looked, 20)
		})
	}
}

// hitRequests are each request (0), the first, the second and the third.
const hitRequests = 4

// The search finds what is planted, whichever way it is written.
func TestTheSearchForSecretsFinds(t *testing.T) {
	for name, text := range map[string]string{
		"a key": "no such key: " + plantedKey, "a client secret": "pi_3_secret_x", "a token": "Bearer A21AA" + strings.Repeat("x", 80),
		"a card's number": "4242 4242-42424242", "basic authentication": "Basic " + base64.StdEncoding.EncodeToString([]byte(plantedKey+":")),
		"the client's secret": "Basic " + base64.StdEncoding.EncodeToString([]byte("sim-client:"+plantedPass)),
	} {
		d := &dragnet{found: map[string]string{}}
		d.fails(name, fmt.Errorf("outside: %w", errors.New(text)))
		assert.NotEmpty(t, d.found, name)
	}
}

// A card's number that somebody typed into any field goes no further.
func TestACardNumberIsRefusedInEveryField(t *testing.T) {
	x := openTill(t)
	x.open()
	defer x.close()
	for name, change := range map[string]func(*payment.Order, string){
		"method": func(o *payment.Order, n string) { o.Methods["stripe"] = payment.Method{ID: n} },
		"customer": func(o *payment.Order, n string) {
			o.Methods["stripe"] = payment.Method{ID: "pm_card_visa", Customer: n}
		},
		"payee": func(o *payment.Order, n string) { o.Payees = map[string]string{"stripe": n} },
	} {
		for _, number := range []string{plantedCard, "4242-4242-4242-4242", "4242 4242 4242 4242", "4242.4242.4242.4242"} {
			o := x.order(visa)
			change(o, number)
			r, err := x.pay.Charge(t.Context(), o)
			assert.ErrorIs(t, err, fault.Invalid, "%s: %s", name, number)
			x.net.result(name, r, err)
		}
	}
	x.charge(x.order(visa)) // so that the journal holds something
	x.books()
	assert.Empty(t, x.net.found)
}

// Settings that can't be used aren't quoted.
func TestNoSecretIsInTheErrorOfAWrongSetting(t *testing.T) {
	d := &dragnet{found: map[string]string{}}
	with := func(base string) {
		for _, g := range []payment.Gateway{
			stripe.Gateway{Key: secret.Literal(plantedKey), BaseURL: base},
			&paypal.Gateway{ClientID: "client", Secret: secret.Literal(plantedPass), BaseURL: base},
		} {
			pay, err := payment.New(g)
			if assert.Error(t, err) {
				d.fails("new", err)
				continue
			}
			assert.NoError(t, pay.Close(t.Context()))
		}
	}
	for _, base := range []string{
		"https://user:PLANTED@api.example.com", "https://api.example.com/?key=PLANTED", "http://user:PLANTED@example.com", "https://user:PLANTED@%zz", "PLANTED",
	} {
		with(base)
	}
	for _, key := range []string{"pk_test_PLANTED", "sk_test_PLANTED\nsecond", "sk_test_PLANTED é"} {
		pay, err := payment.New(stripe.Gateway{Key: secret.Literal(key), BaseURL: "http://127.0.0.1:1"})
		require.NoError(t, err)
		r, err := pay.Charge(t.Context(), &payment.Order{ID: "order-1", Amount: payment.Money{Minor: 100, Currency: payment.USD}})
		require.Error(t, err)
		d.result("charge", r, err)
		assert.NoError(t, pay.Close(t.Context()))
	}
	assert.Empty(t, d.found)
}
