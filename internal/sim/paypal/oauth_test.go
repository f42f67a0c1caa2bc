package paypal_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/internal/sim/paypal"
)

func TestATokenIsGivenForCredentials(t *testing.T) {
	r := open(t, false)
	for name, c := range map[string]struct {
		id, secret, form string
		status           int
		problem          string
	}{
		"the right ones":     {"sim-client", "sim-secret", "grant_type=client_credentials", 200, ""},
		"those of live":      {"live", "s3", "grant_type=client_credentials", 200, ""},
		"a wrong secret":     {"sim-client", "x", "grant_type=client_credentials", 401, "invalid_client"},
		"no secret":          {"sim-client", "", "grant_type=client_credentials", 401, "invalid_client"},
		"an unknown client":  {"x", "sim-secret", "grant_type=client_credentials", 401, "invalid_client"},
		"no grant type":      {"sim-client", "sim-secret", "", 400, "invalid_request"},
		"another grant type": {"sim-client", "sim-secret", "grant_type=password", 400, "unsupported_grant_type"},
	} {
		t.Run(name, func(t *testing.T) {
			got := r.post("/v1/oauth2/token", c.form, func(req *http.Request) { req.SetBasicAuth(c.id, c.secret) })
			assert.Equal(t, c.status, got.status)
			assert.Equal(t, c.problem, got.text("error"))
			if c.status == 200 {
				assert.Equal(t, "Bearer", got.text("token_type"))
				assert.InDelta(t, 32400, got.at("expires_in"), 0)
			}
		})
	}
}

func TestEverythingElseNeedsAToken(t *testing.T) {
	r := open(t, false)
	for name, path := range map[string][2]string{
		"orders": {"POST", orders}, "captures": {"GET", "/v2/payments/captures/X"}, "vault": {"GET", "/v3/vault/payment-tokens/X"},
		"webhooks": {"GET", "/v1/notifications/webhooks"},
	} {
		for header, change := range map[string]change{
			"none":          func(req *http.Request) { req.Header.Del("Authorization") },
			"unknown":       func(req *http.Request) { req.Header.Set("Authorization", "Bearer x") },
			"another style": func(req *http.Request) { req.Header.Set("Authorization", "Basic "+r.token) },
		} {
			got := r.send(path[0], path[1], "", change)
			assert.Equal(t, 401, got.status, "%s, %s", name, header)
			assert.Equal(t, "AUTHENTICATION_FAILURE", got.text("name"))
			assert.Equal(t, got.header.Get("Paypal-Debug-Id"), got.text("debug_id"))
		}
	}
}

func TestATokenEnds(t *testing.T) {
	r := open(t, false)
	r.clock.Advance(9*time.Hour - time.Second)
	assert.Equal(t, 404, r.get(orders+"/X").status)
	r.clock.Advance(time.Second)
	assert.Equal(t, 401, r.get(orders+"/X").status, "by the clock")
	r.token = r.tokenOf(paypal.DefaultAccount)
	assert.Equal(t, 404, r.get(orders+"/X").status)
	r.RevokeTokens()
	assert.Equal(t, 401, r.get(orders+"/X").status, "revoked")
	r.token = r.tokenOf(paypal.DefaultAccount)
	suspended := paypal.DefaultAccount
	suspended.Suspended = true
	r.SetAccount(suspended)
	got := r.get(orders + "/X")
	assert.Equal(t, 403, got.status)
	assert.Equal(t, "NOT_AUTHORIZED PERMISSION_DENIED", got.text("name")+" "+got.issue())
}

func TestNobodySeesAnothersThings(t *testing.T) {
	r := open(t, false)
	capture := r.captured(unit)
	id := r.get("/v2/payments/captures/" + capture).text("supplementary_data.related_ids.order_id")
	vaultID, err := r.SaveMethod("sim-client", "customer-1", "paypal", paypal.Outcome{})
	require.NoError(t, err)
	theirs, sandboxed := r.as(other), r.as(live)
	for path, status := range map[string]int{ // The specification has no 403 for orders.get and orders.patch.
		"GET " + orders + "/" + id:                             404,
		"PATCH " + orders + "/" + id:                           404,
		"POST " + orders + "/" + id + "/capture":               403,
		"GET /v2/payments/captures/" + capture:                 403,
		"POST /v2/payments/captures/" + capture + "/refund":    403,
		"GET /v3/vault/payment-tokens/" + vaultID:              403,
		"DELETE /v3/vault/payment-tokens/" + vaultID:           403,
		"GET /v2/payments/refunds/UNKNOWN":                     404,
		"POST /v2/payments/authorizations/UNKNOWN/reauthorize": 404,
	} {
		method, target, _ := cut(path)
		body := ""
		if method == "PATCH" {
			body = "[]"
		}
		got := theirs.send(method, target, body)
		assert.Equal(t, status, got.status, "another merchant: %s", path)
		if method != "DELETE" {
			got = sandboxed.send(method, target, body)
			assert.Equal(t, 404, got.status, "the other environment: %s", path)
			assert.Equal(t, "RESOURCE_NOT_FOUND INVALID_RESOURCE_ID", got.text("name")+" "+got.issue())
		}
	}
	assert.Equal(t, 1, r.Charges.Len())
	assert.Zero(t, r.Refunds.Len())
}

func TestPathsMethodsAndMediaTypes(t *testing.T) {
	r := open(t, false)
	for name, c := range map[string]struct {
		method, path string
		change       change
		status       int
		name         string
	}{
		"an unknown path":      {"GET", "/v1/other", func(*http.Request) {}, 404, "RESOURCE_NOT_FOUND"},
		"an id with a slash":   {"GET", orders + "/a/b", func(*http.Request) {}, 404, "RESOURCE_NOT_FOUND"},
		"another method":       {"PUT", orders, func(*http.Request) {}, 405, "METHOD_NOT_SUPPORTED"},
		"another media type":   {"POST", orders, func(q *http.Request) { q.Header.Set("Content-Type", "text/plain") }, 415, "UNSUPPORTED_MEDIA_TYPE"},
		"no media type":        {"POST", orders + "/X/capture", func(q *http.Request) { q.Header.Del("Content-Type") }, 415, "UNSUPPORTED_MEDIA_TYPE"},
		"a charset beside it":  {"POST", orders + "/X/capture", func(q *http.Request) { q.Header.Set("Content-Type", "application/json; charset=utf-8") }, 404, "RESOURCE_NOT_FOUND"},
		"what isn't there yet": {"POST", "/v1/billing/subscriptions", func(*http.Request) {}, 404, "RESOURCE_NOT_FOUND"},
	} {
		got := r.send(c.method, c.path, "", c.change)
		assert.Equal(t, c.status, got.status, name)
		assert.Equal(t, c.name, got.text("name"), name)
	}
}
