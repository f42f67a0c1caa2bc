package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/smilefactory/integrations/internal/sim"
	"github.com/smilefactory/integrations/payment"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTheWholeStoryChargesEachOrderOnce(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out, []string{"-demo"}), out.String())
	said := out.String()
	assert.True(t, strings.HasSuffix(said, "\n16 orders, 16 charges, 0 twice\n"), said)
	assert.Contains(t, said, ": 0 news, 0 not taken\n")
	for line := range strings.Lines(said) {
		assert.LessOrEqual(t, utf8.RuneCountInString(strings.TrimSuffix(line, "\n")), 100, line)
	}
}

// What isn't as expected is an error, so that CI sees it.
func TestABrokenExpectationIsAnError(t *testing.T) {
	s := opened(t)
	d := &demo{s: s, client: s.world.client}
	good := scenes[0]
	require.NoError(t, d.scene(t.Context(), io.Discard, good))
	require.Empty(t, d.failed)
	for name, change := range map[string]func(*scene){
		"the status":      func(sc *scene) { sc.status = payment.Declined },
		"the provider":    func(sc *scene) { sc.by = "paypal" },
		"a charge":        func(sc *scene) { sc.charges = 2 },
		"what is kept":    func(sc *scene) { sc.net++ },
		"a second parcel": func(*scene) {},
	} {
		t.Run(name, func(t *testing.T) {
			d.failed = nil
			wrong := good
			change(&wrong)
			if name == "a second parcel" {
				wrong.play = func(ctx context.Context, d *demo) error {
					_, err := d.s.book.db.ExecContext(ctx, "delete from parcels")
					return err
				}
			}
			require.NoError(t, d.scene(t.Context(), io.Discard, wrong))
			assert.Len(t, d.failed, 1)
		})
	}
}

func opened(t *testing.T) *shop {
	t.Helper()
	s, err := open(t.Context(), "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.close(t.Context())) })
	return s
}

func ask(s *shop, method, target string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, s.url+target, strings.NewReader("item=book"))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.handler().ServeHTTP(w, r)
	return w
}

func TestThePageIsEscapedAndKeptByNobody(t *testing.T) {
	s := opened(t)
	_, err := s.book.add(t.Context(), item{"<script>x</script>", payment.Money{Minor: 100}}, false)
	require.NoError(t, err)
	w := ask(s, http.MethodGet, "/")
	assert.Equal(t, http.StatusOK, w.Code)
	assert.NotContains(t, w.Body.String(), "<script")
	assert.Contains(t, w.Body.String(), "&lt;script&gt;x")
	assert.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	assert.Contains(t, w.Header().Get("Content-Security-Policy"), "default-src 'none'")
}

func TestChangesArePostsOfOurOwnPage(t *testing.T) {
	s := opened(t)
	for name, tt := range map[string]struct {
		method, target string
		header         []string
		want           int
	}{
		"our page":                    {"POST", "/orders", []string{"Sec-Fetch-Site", "same-origin"}, 303},
		"another site's page":         {"POST", "/orders", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		"a GET":                       {"GET", "/orders", nil, 405},
		"an order that isn't there":   {"POST", "/orders/order-1/pay", nil, 404},
		"a provider that isn't there": {"POST", "/trouble", nil, 400},
		"a forged webhook":            {"POST", "/hooks/stripe", nil, 401},
		"a webhook of nobody we know": {"POST", "/hooks/acme", nil, 404},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, tt.want, ask(s, tt.method, tt.target, tt.header...).Code)
		})
	}
}

func TestTheShopListensOnTheLoopbackOnly(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", ":0", "192.0.2.1:80", "localhost"} {
		require.ErrorContains(t, run(t.Context(), io.Discard, []string{"-addr", addr}), "-addr", addr)
	}
}

// A signal in the middle of a payment: it is brought to its end, and the customer
// has his answer, before the shop closes.
func TestClosingWaitsForWhatHasBegun(t *testing.T) {
	s, err := open(t.Context(), "127.0.0.1:0")
	require.NoError(t, err)
	answers := &http.Client{Transport: s.world.client.Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	id, err := s.book.add(t.Context(), items["book"], false)
	require.NoError(t, err)
	gate := sim.NewGate()
	s.world.stripe.Faults.Add(sim.Fault{On: moving, At: sim.BeforeActing, Do: sim.Stall, Gate: gate, Times: 1})
	status := make(chan int, 1)
	go func() {
		resp, err := answers.PostForm(s.url+"/orders/"+id+"/pay", url.Values{"method": {"visa"}, "try": {"0"}})
		if err != nil {
			status <- 0
			return
		}
		_ = resp.Body.Close()
		status <- resp.StatusCode
	}()
	<-gate.Arrived()
	s.server.RegisterOnShutdown(gate.Open)
	require.NoError(t, s.close(t.Context()))
	assert.Equal(t, http.StatusSeeOther, <-status)
	assert.Equal(t, verdict{Orders: 1, Charges: 1}, s.world.verdict())
}

func TestTheShopOpensUntilItIsInterrupted(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	out, in := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, in, nil) }()
	line := make([]byte, 200)
	n, err := out.Read(line)
	require.NoError(t, err)
	assert.Contains(t, string(line[:n]), "http://127.0.0.1:")
	interrupt()
	require.NoError(t, <-ended)
}
