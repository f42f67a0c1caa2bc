package sendgrid_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/internal/sim/sendgrid"
)

const good = `{"personalizations":[{"to":[{"email":"b@example.org"}],"custom_args":{"message_id":"m1"}}],` +
	`"from":{"email":"a@example.com"},"subject":"s","content":[{"type":"text/plain","value":"t"}]}`

func post(t *testing.T, s *sendgrid.Sim, key, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+sendgrid.Path, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Content-Type", "application/json")
	res, err := s.Client().Do(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	data, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, string(data)
}

func TestEachRuleRefusesAndEntersNothing(t *testing.T) {
	s := sendgrid.New(sendgrid.Config{Key: "k"})
	defer s.Close()
	for name, c := range map[string]struct{ old, with, field string }{
		"no recipient":      {`"to":[{"email":"b@example.org"}],`, ``, "personalizations.0.to"},
		"bad address":       {`b@example.org`, `nobody`, "personalizations.0.to.0"},
		"no subject":        {`"subject":"s",`, ``, "subject"},
		"no content":        {`"content":[{"type":"text/plain","value":"t"}]`, `"content":[]`, "content"},
		"empty content":     {`"value":"t"`, `"value":""`, "content.0.value"},
		"comma in a name":   {`{"email":"b@example.org"}`, `{"email":"b@example.org","name":"B, C"}`, "personalizations.0.to.0.name"},
		"twice":             {`{"email":"b@example.org"}`, `{"email":"b@example.org"},{"email":"B@example.org"}`, "personalizations.0"},
		"non-ASCII from":    {`a@example.com`, `ä@example.com`, "from.email"},
		"too far ahead":     {`"subject"`, `"send_at":99999999999,"subject"`, "send_at"},
		"reserved header":   {`"subject"`, `"headers":{"Received":"x"},"subject"`, "headers"},
		"line break header": {`"subject"`, `"headers":{"X-A":"x\r\nBcc: y"},"subject"`, "headers"},
		"number as arg":     {`"m1"`, `1`, "custom_args"},
	} {
		changed := strings.Replace(good, c.old, c.with, 1)
		require.NotEqual(t, good, changed, name)
		status, body := post(t, s, "k", changed)
		assert.Equal(t, http.StatusBadRequest, status, name)
		assert.Contains(t, body, c.field, name)
	}
	assert.Zero(t, s.Mails.Len())
}

func TestAGoodMailIsTakenOnceAndAWrongKeyIsNotLetIn(t *testing.T) {
	s := sendgrid.New(sendgrid.Config{Key: "k"})
	defer s.Close()
	status, _ := post(t, s, "other", good)
	assert.Equal(t, http.StatusUnauthorized, status)
	status, _ = post(t, s, "k", good)
	assert.Equal(t, http.StatusAccepted, status)
	assert.Equal(t, 1, s.Mails.Count("m1"))
}
