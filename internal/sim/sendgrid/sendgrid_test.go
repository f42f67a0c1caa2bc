package sendgrid_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/mail"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/smilefactory/integrations/internal/sim"
	"github.com/smilefactory/integrations/internal/sim/sendgrid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const good = `{"personalizations":[{"to":[{"email":"b@example.org"}],"custom_args":{"message_id":"m1"}}],` +
	`"from":{"email":"a@example.com"},"subject":"s","content":[{"type":"text/plain","value":"t"}]}`

func open(t *testing.T, cfg sendgrid.Config) *sendgrid.Sim {
	t.Helper()
	cfg.Key = "k"
	s := sendgrid.New(cfg)
	t.Cleanup(s.Close)
	return s
}

// problem is the first of an error body, with how many there are.
type problem struct {
	status         int
	message, field string
	header         http.Header
}

// post sends a request as it is, changed where the test says so.
func post(t *testing.T, s *sendgrid.Sim, body string, change ...func(*http.Request)) problem {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+sendgrid.Path, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer k")
	req.Header.Set("Content-Type", "application/json")
	for _, c := range change {
		c(req)
	}
	res, err := s.Client().Do(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	data, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	p := problem{status: res.StatusCode, header: res.Header}
	if res.StatusCode < 300 {
		return p
	}
	var found struct {
		Errors []struct{ Message, Field string }
	}
	require.NoError(t, json.Unmarshal(data, &found), "%s", data)
	require.NotEmpty(t, found.Errors)
	p.message, p.field = found.Errors[0].Message, found.Errors[0].Field
	return p
}

// person is n people as JSON.
func person(n int) string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf(`{"email":"p%d@example.org"}`, i)
	}
	return strings.Join(all, ",")
}

func TestEachRuleRefusesAndEntersNothing(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s := open(t, sendgrid.Config{Now: func() time.Time { return now }})
	const to, from, subject, content, value = `"to":[{"email":"b@example.org"}]`, `"from":{"email":"a@example.com"}`, `"subject":"s"`, `"content":[{"type":"text/plain","value":"t"}]`, `"value":"t"`
	more := func(s string) string { return s + "," + subject }
	in := func(s string) string { return s + "," + to }
	args := func(n int) string { return `{"message_id":"m1","k":"` + strings.Repeat("x", n) + `"}` }
	const base = len(`{"k":"","message_id":"m1"}`)
	for name, c := range map[string]struct{ old, with, field, message string }{
		"no sender":                      {from + ",", ``, "from.email", "must be provided"},
		"a sender without at":            {`a@example.com`, `nobody`, "from.email", "valid address"},
		"Unicode in the sender":          {`a@example.com`, `ä@example.com`, "from.email", "Unicode"},
		"Unicode in another from":        {to, in(`"from":{"email":"ä@example.com"}`), "personalizations.0.from.email", "Unicode"},
		"a long sender":                  {`a@example.com`, strings.Repeat("a", 60) + "@" + strings.Repeat("abcdefghi.", 30) + "com", "from.email", "valid address"},
		"a line break in a name":         {from, `"from":{"email":"a@example.com","name":"a\r\nb"}`, "from.name", "CRLF"},
		"a bad reply-to":                 {subject, more(`"reply_to":{"email":"x"}`), "reply_to.email", "valid address"},
		"a bad reply-to of many":         {subject, more(`"reply_to_list":[{"email":"r@example.com"},{"email":"x"}]`), "reply_to_list.1.email", "valid address"},
		"both kinds of reply-to":         {subject, more(`"reply_to":{"email":"r@example.com"},"reply_to_list":[{"email":"r@example.com"}]`), "reply_to_list", "Only one"},
		"1001 to reply to":               {subject, more(`"reply_to_list":[` + person(1001) + `]`), "reply_to_list", "1000 reply-to"},
		"no personalization":             {`{` + to + `,"custom_args":{"message_id":"m1"}}`, ``, "personalizations", "at least one"},
		"1001 personalizations":          {`{` + to + `,"custom_args":{"message_id":"m1"}}`, strings.Repeat(`{"to":[{"email":"b@example.org"}]},`, 1000) + `{"to":[{"email":"b@example.org"}]}`, "personalizations", "limited to 1000"},
		"no recipient":                   {to + ",", ``, "personalizations.0.to", "at least one"},
		"a recipient without at":         {`b@example.org`, `nobody`, "personalizations.0.to.0.email", "valid address"},
		"a comma in a name":              {`{"email":"b@example.org"}`, `{"email":"b@example.org","name":"B, C"}`, "personalizations.0.to.0.name", "; or ,"},
		"a semicolon in a name":          {to, in(`"bcc":[{"email":"c@example.org","name":"B; C"}]`), "personalizations.0.bcc.0.name", "; or ,"},
		"a recipient twice":              {`{"email":"b@example.org"}`, `{"email":"b@example.org"},{"email":"B@example.org"}`, "personalizations.0", "unique"},
		"in to and in cc":                {to, in(`"cc":[{"email":"b@example.org"}]`), "personalizations.0", "unique"},
		"1001 recipients":                {to, `"to":[` + person(1001) + `]`, "personalizations", "1000 total recipients"},
		"an empty own subject":           {to, in(`"subject":""`), "personalizations.0.subject", "at least one character"},
		"an empty subject":               {subject, `"subject":""`, "subject", "at least one character"},
		"no subject":                     {subject + ",", ``, "subject", "is required"},
		"no content":                     {content, `"content":[]`, "content", "at least one defined content"},
		"content without a type":         {`"text/plain"`, `""`, "content.0.type", "at least one character"},
		"a semicolon in a type":          {`"text/plain"`, `"text/plain; charset=utf-8"`, "content.0.type", "';'"},
		"empty content":                  {value, `"value":""`, "content.0.value", "at least one character"},
		"HTML before text":               {content, `"content":[{"type":"text/html","value":"h"},{"type":"text/plain","value":"t"}]`, "content", "RFC 1341"},
		"another type before HTML":       {content, `"content":[{"type":"text/calendar","value":"c"},{"type":"text/html","value":"h"}]`, "content", "RFC 1341"},
		"an empty file":                  {subject, more(`"attachments":[{"content":"","filename":"a"}]`), "attachments.0.content", "at least one character"},
		"a file not in base64":           {subject, more(`"attachments":[{"content":"!!","filename":"a"}]`), "attachments.0.content", "base64"},
		"a file without a name":          {subject, more(`"attachments":[{"content":"YQ=="}]`), "attachments.0.filename", "required"},
		"a line break in its name":       {subject, more(`"attachments":[{"content":"YQ==","filename":"a\r\nb"}]`), "attachments.0.filename", "CRLF"},
		"a semicolon in its type":        {subject, more(`"attachments":[{"content":"YQ==","filename":"a","type":"a/b;c"}]`), "attachments.0.type", "';'"},
		"a line break in its id":         {subject, more(`"attachments":[{"content":"YQ==","filename":"a","content_id":"a\nb"}]`), "attachments.0.content_id", "CRLF"},
		"another disposition":            {subject, more(`"attachments":[{"content":"YQ==","filename":"a","disposition":"x"}]`), "attachments.0.disposition", `"inline" or "attachment"`},
		"11 categories":                  {subject, more(`"categories":["1","2","3","4","5","6","7","8","9","10","11"]`), "categories", "limit of 10"},
		"a long category":                {subject, more(`"categories":["` + strings.Repeat("x", 256) + `"]`), "categories", "255 characters"},
		"a category in Unicode":          {subject, more(`"categories":["ä"]`), "categories", "non-ASCII"},
		"a category twice":               {subject, more(`"categories":["a","a"]`), "categories", "unique"},
		"a header that is reserved":      {subject, more(`"headers":{"Received":"x"}`), "headers", "reserved"},
		"reserved, in a personalization": {to, in(`"headers":{"X-SG-EID":"x"}`), "personalizations.0.headers", "reserved"},
		"a line break in a header":       {subject, more(`"headers":{"X-A":"x\r\nBcc: y"}`), "headers", "CRLF"},
		"a number as a header":           {subject, more(`"headers":{"X-A":1}`), "headers", "must be strings"},
		"a space in a header name":       {subject, more(`"headers":{"X A":"x"}`), "headers", "empty spaces"},
		"Unicode in a header name":       {subject, more(`"headers":{"X-Ä":"x"}`), "headers", "non-ASCII"},
		"a header in two cases":          {subject, more(`"headers":{"X-A":"x","x-a":"y"}`), "headers", "duplicate"},
		"a number as argument":           {`"m1"`, `1`, "personalizations.0.custom_args", "must be strings"},
		"a number for the whole":         {subject, more(`"custom_args":{"a":1}`), "custom_args", "must be strings"},
		"no argument in arguments":       {`{"message_id":"m1"}`, `{}`, "personalizations.0.custom_args", "cannot be empty"},
		"10,000 bytes of arguments":      {`{"message_id":"m1"}`, args(10_000 - base), "personalizations.0.custom_args", "10,000 bytes"},
		"the two together":               {subject, more(`"custom_args":` + args(9_990)), "personalizations.0.custom_args", "10,000 bytes"},
		"more than 72 hours ahead":       {subject, more(fmt.Sprintf(`"send_at":%d`, now.Add(72*time.Hour).Unix()+1)), "send_at", "72 hours"},
		"one of them ahead":              {to, in(fmt.Sprintf(`"send_at":%d`, now.Add(72*time.Hour).Unix()+1)), "personalizations.0.send_at", "72 hours"},
	} {
		t.Run(name, func(t *testing.T) {
			changed := strings.Replace(good, c.old, c.with, 1)
			require.NotEqual(t, good, changed)
			p := post(t, s, changed)
			assert.Equal(t, http.StatusBadRequest, p.status)
			assert.Equal(t, c.field, p.field)
			assert.Contains(t, p.message, c.message)
		})
	}
	assert.Zero(t, s.Mails.Len())

	for name, c := range map[string]struct{ old, with string }{
		"72 hours ahead":           {subject, more(fmt.Sprintf(`"send_at":%d`, now.Add(72*time.Hour).Unix()))},
		"a time that has passed":   {subject, more(`"send_at":1`)},
		"9,999 bytes of arguments": {`{"message_id":"m1"}`, args(9_999 - base)},
		"1000 recipients":          {to, `"to":[` + person(1000) + `]`},
		"10 categories":            {subject, more(`"categories":["1","2","3","4","5","6","7","8","9","` + strings.Repeat("x", 255) + `"]`)},
		"a template's subject":     {subject, `"template_id":"d-1"`},
		"each its own subject":     {to + `,"custom_args":{"message_id":"m1"}}],` + from + "," + subject, to + `,"subject":"own"}],` + from},
	} {
		t.Run(name, func(t *testing.T) {
			changed := strings.Replace(good, c.old, c.with, 1)
			require.NotEqual(t, good, changed)
			assert.Equal(t, http.StatusAccepted, post(t, s, changed).status)
		})
	}
}

func TestWhoAsksAndWithWhatComesFirst(t *testing.T) {
	s := open(t, sendgrid.Config{})
	packed := func(body string) func(*http.Request) {
		var z bytes.Buffer
		w := gzip.NewWriter(&z)
		_, _ = w.Write([]byte(body))
		_ = w.Close()
		return func(r *http.Request) {
			r.Header.Set("Content-Encoding", "gzip")
			r.Body, r.ContentLength = io.NopCloser(&z), int64(z.Len())
		}
	}
	large := strings.Replace(good, `"t"`, `"`+strings.Repeat("x", 30<<20)+`"`, 1)
	for name, c := range map[string]struct {
		body    string
		change  func(*http.Request)
		status  int
		message string
	}{
		"another path":          {good, func(r *http.Request) { r.URL.Path = "/v3/other" }, 404, "not found"},
		"another method":        {good, func(r *http.Request) { r.Method = http.MethodPut }, 405, "POST"},
		"no key":                {good, func(r *http.Request) { r.Header.Del("Authorization") }, 401, "authorization grant"},
		"a wrong key":           {good, func(r *http.Request) { r.Header.Set("Authorization", "Bearer x") }, 401, "authorization grant"},
		"another content type":  {good, func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }, 415, "application/json"},
		"what is no JSON":       {`{"a":`, func(*http.Request) {}, 400, "Bad Request"},
		"JSON of another shape": {`{"personalizations":1}`, func(*http.Request) {}, 400, "Bad Request"},
		"what is not UTF-8":     {strings.Replace(good, `"t"`, "\"\xff\"", 1), func(*http.Request) {}, 415, "UTF8"},
		"30 MB":                 {large, func(*http.Request) {}, 413, "too large"},
		"30 MB, gzipped":        {"", packed(large), 413, "too large"},
		"what is no gzip":       {good, func(r *http.Request) { r.Header.Set("Content-Encoding", "gzip") }, 400, "Bad Request"},
		"half a gzip": {good, func(r *http.Request) {
			packed(good)(r)
			r.Body, r.ContentLength = io.NopCloser(io.LimitReader(r.Body, 40)), 40
		}, 400, "Bad Request"},
		"gzip that is whole":     {"", packed(good), 202, ""},
		"a charset for the type": {good, func(r *http.Request) { r.Header.Set("Content-Type", "application/json; charset=utf-8") }, 202, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s.Mails.Clear()
			p := post(t, s, c.body, c.change)
			assert.Equal(t, c.status, p.status)
			assert.Contains(t, p.message, c.message)
			taken := 0
			if c.status == http.StatusAccepted {
				taken = 1
			}
			assert.Equal(t, taken, s.Mails.Len())
		})
	}
	s.SetKey("rotated")
	assert.Equal(t, http.StatusUnauthorized, post(t, s, good).status)
	s.SetKey("k")
	assert.Equal(t, http.StatusAccepted, post(t, s, good).status)
	s.SetKey("")
	assert.Equal(t, http.StatusUnauthorized, post(t, s, good, func(r *http.Request) { r.Header.Set("Authorization", "Bearer ") }).status)
}

func TestAMailIsReadWhole(t *testing.T) {
	s := open(t, sendgrid.Config{})
	p := post(t, s, `{
		"personalizations": [
			{"to": [{"email": "b@example.org", "name": "B"}], "cc": [{"email": "c@example.org"}], "bcc": [{"email": "d@example.org"}],
			 "subject": "own", "headers": {"x-own": "1"}, "custom_args": {"message_id": "m1", "k": "own"}, "send_at": 1767322000, "from": {"email": "own@example.com"}},
			{"to": [{"email": "e@example.org"}]}],
		"from": {"email": "a@example.com", "name": "A"}, "reply_to": {"email": "r@example.com"}, "subject": "s",
		"content": [{"type": "text/plain", "value": "t"}, {"type": "text/html", "value": "<p>"}, {"type": "text/calendar", "value": "c"}],
		"attachments": [{"content": "YQ==", "type": "text/csv", "filename": "a.csv", "disposition": "inline", "content_id": "i"}],
		"headers": {"X-Whole": "2"}, "categories": ["t"], "custom_args": {"k": "whole", "l": "v"}, "send_at": 1767321000}`,
		func(r *http.Request) { r.Header.Set("Idempotency-Key", "key") })
	require.Equal(t, http.StatusAccepted, p.status)
	id := p.header.Get("X-Message-Id")
	require.NotEmpty(t, id)
	files := []sim.Attachment{{Name: "a.csv", Type: "text/csv", ContentID: "i", Data: []byte("a")}}
	reply := []mail.Address{{Address: "r@example.com"}}
	assert.Equal(t, []sim.Mail{
		{
			ID: "m1", ProviderID: id, From: mail.Address{Address: "own@example.com"}, To: []mail.Address{{Name: "B", Address: "b@example.org"}},
			Cc: []mail.Address{{Address: "c@example.org"}}, Bcc: []mail.Address{{Address: "d@example.org"}}, ReplyTo: reply, Subject: "own", Text: "t",
			HTML: "<p>", Headers: map[string]string{"X-Own": "1", "X-Whole": "2"}, Attachments: files, Tags: []string{"t"},
			Metadata: map[string]string{"k": "own", "l": "v"}, SendAt: time.Unix(1767322000, 0), Key: "key",
		},
		{
			ProviderID: id, From: mail.Address{Name: "A", Address: "a@example.com"}, To: []mail.Address{{Address: "e@example.org"}}, ReplyTo: reply,
			Subject: "s", Text: "t", HTML: "<p>", Headers: map[string]string{"X-Whole": "2"}, Attachments: files, Tags: []string{"t"},
			Metadata: map[string]string{"k": "whole", "l": "v"}, SendAt: time.Unix(1767321000, 0), Key: "key",
		},
	}, s.Mails.All())
}

func TestTheSandboxChecksAndTakesNothing(t *testing.T) {
	s := open(t, sendgrid.Config{})
	in := func(body string) string {
		return strings.Replace(body, `"subject"`, `"mail_settings":{"sandbox_mode":{"enable":true}},"subject"`, 1)
	}
	assert.Equal(t, http.StatusOK, post(t, s, in(good)).status)
	assert.Equal(t, http.StatusBadRequest, post(t, s, in(strings.Replace(good, "b@example.org", "nobody", 1))).status)
	assert.Zero(t, s.Mails.Len())
}

func TestFailuresLookLikeSendGrids(t *testing.T) {
	s := open(t, sendgrid.Config{})
	reset := time.Unix(1767322000, 0)
	s.Next(sendgrid.Error(500, "oops"), sendgrid.RateLimited(reset))
	p := post(t, s, good)
	assert.Equal(t, []any{500, "oops", ""}, []any{p.status, p.message, p.field})
	p = post(t, s, good)
	assert.Equal(t, http.StatusTooManyRequests, p.status)
	assert.Equal(t, []string{"600", "0", "1767322000"},
		[]string{p.header.Get("X-RateLimit-Limit"), p.header.Get("X-RateLimit-Remaining"), p.header.Get("X-RateLimit-Reset")})
	assert.Zero(t, s.Mails.Len())
}
