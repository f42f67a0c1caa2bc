package paypal_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	"github.com/smilefactory/integrations/internal/sim"
	simulator "github.com/smilefactory/integrations/internal/sim/paypal"
	"github.com/smilefactory/integrations/payment/paypal"
	"github.com/smilefactory/integrations/secret"
)

func TestATokenServesManyCalls(t *testing.T) {
	b := open(t)
	a := b.prepared()
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			_, err := b.LookUp(t.Context(), a)
			assert.NoError(t, err)
		})
	}
	all.Wait()
	assert.Len(t, b.sim.Calls(on(tokenPath)), 1)
}

func TestOneTokenIsFetchedAtATime(t *testing.T) {
	b := open(t)
	gate := sim.NewGate()
	b.sim.Add(sim.Fault{On: on(tokenPath), At: sim.BeforeActing, Do: sim.Stall, Gate: gate})
	done := make(chan error, 10)
	look := func() { done <- b.Detach(t.Context(), "customer1", "8kk8451t") }
	go look()
	<-gate.Arrived()
	for range 9 {
		go look()
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	isFault(t, b.Detach(ctx, "customer1", "8kk8451t"), fault.Unavailable, "")
	gate.Open()
	for range 10 {
		require.ErrorIs(t, <-done, fault.NotFound)
	}
	assert.Len(t, b.sim.Calls(on(tokenPath)), 1)
}

func TestOneWhoWaitsForAnothersTokenCanGiveUp(t *testing.T) {
	b := open(t)
	gate := sim.NewGate()
	b.sim.Add(sim.Fault{On: on(tokenPath), At: sim.BeforeActing, Do: sim.Stall, Gate: gate, Times: 1})
	first, second := make(chan error, 1), make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { first <- b.Detach(ctx, "customer1", "8kk8451t") }()
	<-gate.Arrived()
	impatient, giveUp := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer giveUp()
	isFault(t, b.Detach(impatient, "customer1", "8kk8451t"), fault.Unavailable, "")
	go func() { second <- b.Detach(t.Context(), "customer1", "8kk8451t") }()
	began := time.Now()
	cancel()
	isFault(t, <-first, fault.Unavailable, "")
	assert.Less(t, time.Since(began), 50*time.Millisecond)
	require.ErrorIs(t, <-second, fault.NotFound, "that the first gave up says nothing to the others")
	gate.Open()
}

func TestARefusedTokenIsReplacedOnce(t *testing.T) {
	b := open(t)
	a := b.approved(simulator.Outcome{})
	b.sim.RevokeTokens()
	b.committed(a)
	assert.Equal(t, 1, b.charges(a))
	assert.Len(t, b.sim.Calls(on(tokenPath)), 2)
	assert.Len(t, b.sim.Calls(on(capturePath)), 2)

	b.sim.Add(sim.Fault{On: on(capturePath), At: sim.BeforeActing, Do: sim.Answer, Reply: simulator.Error(401, "")})
	_, err := b.Commit(t.Context(), a)
	isFault(t, err, fault.Denied, "AUTHENTICATION_FAILURE")
	assert.Len(t, b.sim.Calls(on(capturePath)), 4, "and not more than once")
	_, err = b.Commit(t.Context(), a)
	require.ErrorIs(t, err, fault.Denied)
	assert.Len(t, b.sim.Calls(on(capturePath)), 5, "no refused token is used again")
}

func TestATokenIsRenewedBeforeItEnds(t *testing.T) {
	b := open(t)
	b.sim.Close()
	s := simulator.New(simulator.Config{TokenTTL: time.Minute, Accounts: []simulator.Account{{ClientID: clientID, Secret: password, MerchantID: merchant}}})
	host := sim.NewHost(s, false)
	t.Cleanup(host.Close)
	b.sim, b.BaseURL = s, host.URL
	b.HTTPClient = host.Client()
	for range 3 {
		require.ErrorIs(t, b.Detach(t.Context(), "customer1", "8kk8451t"), fault.NotFound)
	}
	assert.Len(t, s.Calls(on(tokenPath)), 3, "in its last minute a token isn't used")
}

func TestAFailedTokenCallSentNothingOfThePayment(t *testing.T) {
	for name, c := range map[string]struct {
		fault sim.Fault
		kind  fault.Kind
		code  string
	}{
		"reset":             {sim.Fault{At: sim.BeforeActing, Do: sim.Reset}, fault.Unavailable, ""},
		"closed":            {sim.Fault{At: sim.AfterActing, Do: sim.Close}, fault.Unavailable, ""},
		"broken off":        {sim.Fault{At: sim.MidAnswer, Do: sim.Close}, fault.Unavailable, ""},
		"500":               {sim.Fault{At: sim.BeforeActing, Do: sim.Answer, Reply: simulator.Error(500, "")}, fault.Unavailable, "500"},
		"502 page":          {sim.Fault{At: sim.BeforeActing, Do: sim.Answer, Reply: sim.Reply{Status: 502, Body: "<html>planted"}}, fault.Unavailable, "502"},
		"408":               {sim.Fault{At: sim.BeforeActing, Do: sim.Answer, Reply: simulator.Error(408, "")}, fault.Unavailable, "408"},
		"a page":            {sim.Fault{At: sim.BeforeActing, Do: sim.Answer, Reply: sim.Reply{Status: 200, Body: "<html>planted"}}, fault.Unavailable, ""},
		"no token":          {sim.Fault{At: sim.BeforeActing, Do: sim.Answer, Reply: sim.Reply{Status: 200, Body: "{}"}}, fault.Unavailable, ""},
		"a redirect":        {sim.Fault{At: sim.BeforeActing, Do: sim.Answer, Reply: sim.Reply{Status: 307, Header: http.Header{"Location": {"/x"}}}}, fault.Unavailable, "307"},
		"401":               {sim.Fault{At: sim.BeforeActing, Do: sim.Answer, Reply: sim.Reply{Status: 401, Body: `{"error":"invalid_client","error_description":"planted"}`}}, fault.Denied, "invalid_client"},
		"400":               {sim.Fault{At: sim.BeforeActing, Do: sim.Answer, Reply: sim.Reply{Status: 400, Body: `{"error":"unsupported_grant_type"}`}}, fault.Denied, "unsupported_grant_type"},
		"400 of a proxy":    {sim.Fault{At: sim.BeforeActing, Do: sim.Answer, Reply: sim.Reply{Status: 400, Body: "400 Bad Request"}}, fault.Unavailable, "400"},
		"404 of a proxy":    {sim.Fault{At: sim.BeforeActing, Do: sim.Answer, Reply: sim.Reply{Status: 404, Body: "<html>planted"}}, fault.Unavailable, "404"},
		"403":               {sim.Fault{At: sim.BeforeActing, Do: sim.Answer, Reply: simulator.Error(403, "")}, fault.Denied, "403"},
		"too many requests": {sim.Fault{At: sim.BeforeActing, Do: sim.Answer, Reply: simulator.RateLimited(9 * time.Second)}, fault.RateLimited, "429"},
	} {
		t.Run(name, func(t *testing.T) {
			b := open(t)
			c.fault.On = on(tokenPath)
			b.sim.Add(c.fault)
			_, err := b.Prepare(t.Context(), b.attempt())
			f := isFault(t, err, c.kind, c.code)
			assert.False(t, fault.MayHaveActed(err))
			assert.Empty(t, b.sim.Calls(on(createPath)))
			if c.kind == fault.RateLimited {
				assert.Equal(t, 9*time.Second, f.RetryAfter)
			}
			b.sim.Heal()
			_, err = b.Prepare(t.Context(), b.attempt())
			require.NoError(t, err, "and is tried anew")
		})
	}
}

func TestTheSecretMayRotate(t *testing.T) {
	b := open(t)
	now := "planted-wrong"
	b.Secret = secret.Func(func(context.Context) (secret.Value, error) { return secret.NewValue(now), nil })
	_, err := b.Prepare(t.Context(), b.attempt())
	isFault(t, err, fault.Denied, "invalid_client")
	now = password
	_, err = b.Prepare(t.Context(), b.attempt())
	require.NoError(t, err)

	b = open(t)
	b.Secret = secret.Func(func(context.Context) (secret.Value, error) { return secret.Value{}, errors.New("vault is sealed") })
	_, err = b.Prepare(t.Context(), b.attempt())
	isFault(t, err, fault.Denied, "")
	assert.Empty(t, b.sim.Calls(anything))
}

func TestSettingsAreChecked(t *testing.T) {
	good := func() *paypal.Gateway { return &paypal.Gateway{ClientID: "AbC_1-", Secret: secret.Literal("s")} }
	require.NoError(t, good().Check())
	for field, change := range map[string]func(*paypal.Gateway){
		"ClientID is required": func(g *paypal.Gateway) { g.ClientID = "" },
		"ClientID must be":     func(g *paypal.Gateway) { g.ClientID = "a:b" },
		"Secret is required":   func(g *paypal.Gateway) { g.Secret = nil },
		"MerchantID must be":   func(g *paypal.Gateway) { g.MerchantID = "merchant@example.com" },
		"WebhookID must be":    func(g *paypal.Gateway) { g.WebhookID = "a|b" },
		"BaseURL must begin":   func(g *paypal.Gateway) { g.BaseURL = "http://api.paypal.com" },
		"BaseURL is not":       func(g *paypal.Gateway) { g.BaseURL = "https://u:planted@api.paypal.com" },
	} {
		g := good()
		change(g)
		require.ErrorContains(t, g.Check(), "paypal: "+field)
		assert.NotContains(t, g.Check().Error(), "planted")
	}
}

func TestWhoseAccountItIs(t *testing.T) {
	g := &paypal.Gateway{ClientID: "app", Secret: secret.Literal("s")}
	assert.Equal(t, "paypal", g.Name())
	assert.Equal(t, "app", g.Identity().Account)
	assert.True(t, g.Identity().Live)
	g.Sandbox, g.MerchantID = true, merchant
	assert.Equal(t, merchant, g.Identity().Account)
	assert.False(t, g.Identity().Live)
}

func TestTheEnvironmentIsPayPalsOwnUnlessOneIsGiven(t *testing.T) {
	for want, g := range map[string]*paypal.Gateway{
		"api-m.paypal.com": {}, "api-m.sandbox.paypal.com": {Sandbox: true}, "pay.example.com": {BaseURL: "https://pay.example.com/"},
	} {
		host := ""
		g.ClientID, g.Secret = "app", secret.Literal("s")
		g.HTTPClient = &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			host = r.URL.Host
			return nil, http.ErrServerClosed
		})}
		require.Error(t, g.Detach(t.Context(), "customer1", "8kk8451t"))
		assert.Equal(t, want, host)
	}
}
