package stripe_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/payment/stripe"
)

// An error may be printed in any way, also as a value and with a verb that doesn't
// fit, and shows neither the client secret nor what was asked for.
func TestAPrintedErrorShowsNoSecret(t *testing.T) {
	b := open(t)
	a := b.prepared(t, "pm_card_visa")
	b.HTTPClient = &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		sent, err := io.ReadAll(r.Body)
		body := fmt.Sprintf(`{"error":{"type":"invalid_request_error","message":"you sent %s","payment_intent":{"id":"pi_1","object":"payment_intent",
			"client_secret":"pi_1_secret_planted","description":"Planted description"}}}`, sent)
		return &http.Response{StatusCode: http.StatusBadRequest, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, err
	})}
	_, confirm := b.Commit(t.Context(), a)
	_, create := b.Prepare(t.Context(), a)
	for _, err := range []error{confirm, create} {
		said, ok := errors.AsType[*stripe.Error](err)
		require.True(t, ok, "%v", err)
		assert.Contains(t, said.Message, "you sent")
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d"} {
			for _, v := range []any{err, said, *said} {
				printed := strings.ToLower(fmt.Sprintf(verb, v))
				assert.NotContains(t, printed, "planted", verb)
				assert.NotContains(t, printed, "_secret_", verb)
			}
		}
	}
}
