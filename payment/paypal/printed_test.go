package paypal_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/fault"
	simulator "github.com/smilefactory/integrations/internal/sim/paypal"
)

// A Gateway may be printed in any way, and shows neither its secret nor its token.
func TestAPrintedGatewayShowsNoToken(t *testing.T) {
	b := open(t)
	b.committed(b.prepared(b.saved("paypal", simulator.Outcome{})))
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d"} {
		printed := fmt.Sprintf(verb, struct{ Gateway any }{b.Gateway}) + fmt.Sprintf(verb, b.Gateway)
		assert.Contains(t, printed, clientID[:3], verb)
		assert.NotContains(t, printed, password, verb)
		assert.NotContains(t, printed, "A21AA", verb)
	}
}

// What reads a token's answer quotes it in its error.
func TestAnUnreadableTokenIsNotQuoted(t *testing.T) {
	for _, body := range []string{`{"access_token":"planted","expires_in":"planted"}`, `planted`, `{"access_token":["planted"]}`} {
		b := open(t)
		b.HTTPClient = &http.Client{Transport: answersAll(body)}
		_, err := b.Prepare(t.Context(), b.attempt())
		require.Error(t, err)
		isFault(t, err, fault.Unavailable, "")
	}
}

type answersAll string

func (a answersAll) RoundTrip(r *http.Request) (*http.Response, error) {
	h := http.Header{"Content-Type": {"application/json"}}
	return &http.Response{StatusCode: http.StatusOK, Header: h, Body: io.NopCloser(strings.NewReader(string(a))), Request: r}, nil
}
