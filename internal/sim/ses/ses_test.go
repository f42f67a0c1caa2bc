package ses_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/internal/sim/ses"
)

const good = `{"FromEmailAddress":"a@example.com","Destination":{"ToAddresses":["b@example.org"]},` +
	`"Content":{"Simple":{"Subject":{"Data":"s"},"Body":{"Text":{"Data":"t"}}}},"EmailTags":[{"Name":"message_id","Value":"m1"}]}`

func post(t *testing.T, s *ses.Sim, key, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+ses.Path, strings.NewReader(body))
	require.NoError(t, err)
	if key != "" {
		req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+key+"/20260101/eu-west-1/ses/aws4_request")
		req.Header.Set("X-Amz-Date", time.Now().UTC().Format("20060102T150405Z"))
	}
	res, err := s.Client().Do(req)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	return res.StatusCode, res.Header.Get("X-Amzn-Errortype")
}

func TestEachRuleRefusesAndEntersNothing(t *testing.T) {
	s := ses.New(ses.Config{AccessKeyID: "AK"})
	defer s.Close()
	for name, c := range map[string]struct{ old, with string }{
		"no recipient":   {`"b@example.org"`, ``},
		"51 recipients":  {`"b@example.org"`, `"b@example.org"` + strings.Repeat(`,"b@example.org"`, 50)},
		"bad address":    {`b@example.org`, `nobody`},
		"non-ASCII user": {`b@example.org`, `ä@example.org`},
		"no subject":     {`"Data":"s"`, `"Data":""`},
		"no content":     {`"Simple"`, `"Other"`},
		"bad tag":        {`"m1"`, `"m 1"`},
		"tag twice":      {`"m1"}`, `"m1"},{"Name":"message_id","Value":"m2"}`},
		"bad header":     {`"Subject"`, `"Headers":[{"Name":"X-A","Value":"x\r\ny"}],"Subject"`},
	} {
		changed := strings.Replace(good, c.old, c.with, 1)
		require.NotEqual(t, good, changed, name)
		status, typ := post(t, s, "AK", changed)
		assert.Equal(t, http.StatusBadRequest, status, name)
		assert.Equal(t, "BadRequestException", typ, name)
	}
	assert.Zero(t, s.Mails.Len())
}

func TestAGoodMailIsTakenOnceAndAWrongKeyIsNotLetIn(t *testing.T) {
	s := ses.New(ses.Config{AccessKeyID: "AK"})
	defer s.Close()
	for key, want := range map[string]string{"": "MissingAuthenticationTokenException", "AKOTHER": "UnrecognizedClientException"} {
		status, typ := post(t, s, key, good)
		assert.Equal(t, http.StatusForbidden, status)
		assert.Equal(t, want, typ)
	}
	status, _ := post(t, s, "AK", good)
	assert.Equal(t, http.StatusOK, status)
	assert.Equal(t, 1, s.Mails.Count("m1"))
}
