package paypal

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/smilefactory/integrations/internal/sim"
)

// bearer is an access token that was handed out.
type bearer struct {
	clientID string
	expires  time.Time
}

// token answers POST /v1/oauth2/token (PayPal's page "Authentication"). Its refusals have OAuth's form (RFC 6749
// section 5.2); the words of invalid_client are those that the API was seen to use.
func (s *Sim) token(c *call) sim.Reply {
	id, secret, ok := c.r.BasicAuth()
	account, known := s.accounts[id]
	if !ok || !known || secret == "" || account.Secret != secret {
		return oauthError(http.StatusUnauthorized, "invalid_client", "Client Authentication failed")
	}
	form, err := url.ParseQuery(string(c.raw))
	if err != nil || form.Get("grant_type") == "" {
		return oauthError(http.StatusBadRequest, "invalid_request", "Missing grant_type parameter")
	}
	if form.Get("grant_type") != "client_credentials" {
		return oauthError(http.StatusBadRequest, "unsupported_grant_type", "Grant Type is NULL or not supported")
	}
	value := "A21AA" + newID(idAlphabet+"abcdefghijkmnopqrstuvwxyz", 80)
	s.tokens[value] = bearer{account.ClientID, c.now.Add(s.cfg.TokenTTL)}
	return respond(http.StatusOK, object{
		"scope": "https://uri.paypal.com/services/payments/payment", "access_token": value, "token_type": "Bearer",
		"app_id": "APP-80W284485P519543T", "expires_in": int64(s.cfg.TokenTTL / time.Second), "nonce": stamp(c.now) + newID(idAlphabet, 20),
	}, newDebugID())
}

func oauthError(status int, name, description string) sim.Reply {
	return respond(status, object{"error": name, "error_description": description}, newDebugID())
}

// authenticate finds whose access token a request carries (Orders v2 specification, error_401).
func (s *Sim) authenticate(r *http.Request, now time.Time) (Account, *problem) {
	scheme, value, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	b, known := s.tokens[value]
	if !strings.EqualFold(scheme, "Bearer") || !known || !now.Before(b.expires) {
		return Account{}, refuse(http.StatusUnauthorized)
	}
	account := s.accounts[b.clientID]
	if account.Suspended {
		return Account{}, forbidden()
	}
	return account, nil
}
