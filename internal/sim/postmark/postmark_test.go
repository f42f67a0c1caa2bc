package postmark_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/mail"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/smilefactory/integrations/internal/sim"
	"github.com/smilefactory/integrations/internal/sim/postmark"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const good = `{"From":"a@example.com","To":"b@example.org","Subject":"s","TextBody":"t","Metadata":{"message_id":"m1"}}`

func open(t *testing.T, cfg postmark.Config) *postmark.Sim {
	t.Helper()
	cfg.Token = "k"
	s := postmark.New(cfg)
	t.Cleanup(s.Close)
	return s
}

type answer struct {
	status             int
	ErrorCode          int
	Message, MessageID string
	To, SubmittedAt    string
	header             http.Header
}

// post sends a request as it is, changed where the test says so.
func post(t *testing.T, s *postmark.Sim, body string, change ...func(*http.Request)) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+postmark.Path, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("X-Postmark-Server-Token", "k")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Content-Type", "application/json")
	for _, c := range change {
		c(req)
	}
	res, err := s.Client().Do(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	data, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	a := answer{status: res.StatusCode, header: res.Header}
	if len(data) > 0 {
		require.NoError(t, json.Unmarshal(data, &a), "%s", data)
	}
	return a
}

func people(n int) string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("p%d@example.org", i)
	}
	return strings.Join(all, ", ")
}

func TestEachRuleRefusesAndEntersNothing(t *testing.T) {
	s := open(t, postmark.Config{Streams: []string{"news"}})
	const from, to, subject, text, id = `"a@example.com"`, `"b@example.org"`, `"Subject":"s"`, `"TextBody":"t"`, `{"message_id":"m1"}`
	more := func(s string) string { return subject + "," + s }
	metadata := func(n int) string {
		out := []byte(`{"message_id":"m1"`)
		for i := range n {
			out = fmt.Appendf(out, `,"k%d":"v"`, i)
		}
		return string(out) + "}"
	}
	file := func(fields string) string { return more(`"Attachments":[{` + fields + `}]`) }
	for name, c := range map[string]struct {
		old, with string
		code      int
		message   string
	}{
		"no sender":                       {from, `""`, 300, "Invalid 'From'"},
		"two senders":                     {from, `"a@example.com, b@example.com"`, 300, "Invalid 'From'"},
		"a sender without at":             {from, `"nobody"`, 300, "Invalid 'From'"},
		"256 characters of sender":        {from, `"` + strings.Repeat("n", 240) + ` <a@example.com>"`, 300, "'From' field is too long"},
		"no recipient":                    {to, `""`, 300, "Invalid 'To'"},
		"a bad recipient":                 {to, `"test"`, 300, "Invalid 'To' address: 'test'."},
		"Unicode before the @":            {to, `"ä@example.org"`, 300, "Invalid 'To'"},
		"a bad copy":                      {subject, more(`"Cc":"x"`), 300, "Invalid 'Cc'"},
		"a bad blind copy":                {subject, more(`"Bcc":"x"`), 300, "Invalid 'Bcc'"},
		"a bad reply-to":                  {subject, more(`"ReplyTo":"x"`), 300, "Invalid 'ReplyTo'"},
		"51 recipients":                   {to, `"` + people(51) + `"`, 300, "50 recipients"},
		"51 in three fields":              {to, `"` + people(49) + `","Cc":"c@example.org","Bcc":"d@example.org"`, 300, "50 recipients"},
		"no body":                         {"," + text, ``, 300, "TextBody or HtmlBody"},
		"5 MB of text":                    {text, `"TextBody":"` + strings.Repeat("x", 5<<20+1) + `"`, 300, "too large"},
		"5 MB of HTML":                    {text, `"HtmlBody":"` + strings.Repeat("x", 5<<20+1) + `"`, 300, "too large"},
		"2001 characters of subject":      {subject, `"Subject":"` + strings.Repeat("x", 2001) + `"`, 300, "'Subject' field is too long"},
		"1001 characters of tag":          {subject, more(`"Tag":"` + strings.Repeat("x", 1001) + `"`), 300, "'Tag' field is too long"},
		"an unknown way to track links":   {subject, more(`"TrackLinks":"All"`), 300, "TrackLinks"},
		"11 entries of metadata":          {id, metadata(10), 300, "Too many"},
		"a key of 21":                     {id, `{"` + strings.Repeat("k", 21) + `":"v"}`, 300, "name is too long"},
		"a value of 81":                   {id, `{"k":"` + strings.Repeat("v", 81) + `"}`, 300, "value is too long"},
		"a key in two cases":              {id, `{"k":"v","K":"v"}`, 300, "Duplicate"},
		"a number as metadata":            {id, `{"k":1}`, 403, "Invalid request field"},
		"a list of recipients":            {to, `["b@example.org"]`, 403, "Invalid request field"},
		"a header without a name":         {subject, more(`"Headers":[{"Name":"","Value":"v"}]`), 300, "header"},
		"a space in a header's name":      {subject, more(`"Headers":[{"Name":"X A","Value":"v"}]`), 300, "header"},
		"a line break in a header":        {subject, more(`"Headers":[{"Name":"X","Value":"a\r\nb"}]`), 300, "header"},
		"a program":                       {subject, file(`"Name":"a.EXE","Content":"YQ==","ContentType":"a/b"`), 411, "file type"},
		"a file without a name":           {subject, file(`"Content":"YQ==","ContentType":"a/b"`), 300, "Name"},
		"a file without a type":           {subject, file(`"Name":"a","Content":"YQ=="`), 300, "ContentType"},
		"an empty file":                   {subject, file(`"Name":"a","Content":"","ContentType":"a/b"`), 300, "base64"},
		"a file that isn't base64":        {subject, file(`"Name":"a","Content":"!!","ContentType":"a/b"`), 300, "base64"},
		"a content id without its scheme": {subject, file(`"Name":"a","Content":"YQ==","ContentType":"a/b","ContentID":"i"`), 300, "cid:"},
		"a stream that isn't there":       {subject, more(`"MessageStream":"other"`), 1235, "'other' does not exist"},
	} {
		t.Run(name, func(t *testing.T) {
			changed := strings.Replace(good, c.old, c.with, 1)
			require.NotEqual(t, good, changed)
			a := post(t, s, changed)
			assert.Equal(t, []any{http.StatusUnprocessableEntity, c.code, fmt.Sprint(c.code)}, []any{a.status, a.ErrorCode, a.header.Get("X-PM-ApiErrorCode")})
			assert.Contains(t, a.Message, c.message)
		})
	}
	assert.Zero(t, s.Mails.Len())
	assert.Zero(t, s.Taken.Len())

	for name, c := range map[string]struct{ old, with string }{
		"255 characters of sender":   {from, `"` + strings.Repeat("n", 239) + ` <a@example.com>"`},
		"50 recipients":              {to, `"` + people(50) + `"`},
		"2000 characters of subject": {subject, `"Subject":"` + strings.Repeat("x", 2000) + `"`},
		"1000 characters of tag":     {subject, more(`"Tag":"` + strings.Repeat("x", 1000) + `"`)},
		"10 entries of metadata":     {id, metadata(9)},
		"a key of 20, a value of 80": {id, `{"` + strings.Repeat("k", 20) + `":"` + strings.Repeat("v", 80) + `"}`},
		"another stream":             {subject, more(`"MessageStream":"news"`)},
		"the default stream":         {subject, more(`"MessageStream":"outbound"`)},
		"5 MB of text":               {text, `"TextBody":"` + strings.Repeat("x", 5<<20) + `"`},
	} {
		t.Run(name, func(t *testing.T) {
			changed := strings.Replace(good, c.old, c.with, 1)
			require.NotEqual(t, good, changed)
			a := post(t, s, changed)
			assert.Equal(t, []any{http.StatusOK, 0, "OK"}, []any{a.status, a.ErrorCode, a.Message})
		})
	}
}

func TestWhoAsksAndWithWhatComesFirst(t *testing.T) {
	s := open(t, postmark.Config{})
	set := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	large := strings.Replace(good, `"t"`, `"`+strings.Repeat("x", 10<<20)+`"`, 1)
	for name, c := range map[string]struct {
		body         string
		change       func(*http.Request)
		status, code int
	}{
		"another path":             {good, func(r *http.Request) { r.URL.Path = "/other" }, 404, 0},
		"another method":           {good, func(r *http.Request) { r.Method = http.MethodPut }, 404, 0},
		"no token":                 {good, func(r *http.Request) { r.Header.Del("X-Postmark-Server-Token") }, 401, 10},
		"a wrong token":            {good, set("X-Postmark-Server-Token", "x"), 401, 10},
		"a token in another case":  {good, set("X-Postmark-Server-Token", "K"), 200, 0},
		"another content type":     {good, set("Content-Type", "text/plain"), 415, 0},
		"nothing that is accepted": {good, func(r *http.Request) { r.Header.Del("Accept") }, 415, 0},
		"a charset for the type":   {good, set("Content-Type", "application/json; charset=utf-8"), 200, 0},
		"10 MB":                    {large, func(*http.Request) {}, 413, 0},
		"what is no JSON":          {`{"From":`, func(*http.Request) {}, 422, 402},
		"JSON of another shape":    {`[]`, func(*http.Request) {}, 422, 403},
	} {
		t.Run(name, func(t *testing.T) {
			s.Mails.Clear()
			a := post(t, s, c.body, c.change)
			assert.Equal(t, []int{c.status, c.code}, []int{a.status, a.ErrorCode})
			assert.Equal(t, c.status == 200, s.Mails.Len() == 1)
		})
	}
	s.SetToken("rotated")
	assert.Equal(t, http.StatusUnauthorized, post(t, s, good).status)
	s.SetToken("")
	assert.Equal(t, http.StatusUnauthorized, post(t, s, good, set("X-Postmark-Server-Token", "")).status)
}

func TestAMailIsReadWhole(t *testing.T) {
	s := open(t, postmark.Config{})
	a := post(t, s, `{"From":"Ada <a@example.com>","To":"\"B, C\" <b@example.org>, d@example.org","Cc":"c@example.org","Bcc":"e@example.org",
		"ReplyTo":"r@example.com","Subject":"s","TextBody":"t","HtmlBody":"<p>","Tag":"welcome","TrackOpens":true,"MessageStream":"outbound",
		"Metadata":{"message_id":"m1","k":"v"},"Headers":[{"Name":"x-own","Value":"1"},{"Name":"Message-ID","Value":"<m@x>"},{"Name":"X-PM-KeepID","Value":"true"}],
		"Attachments":[{"Name":"a.csv","Content":"YQ==","ContentType":"text/csv","ContentID":"cid:i"},{"Name":"b","Content":"Yg==","ContentType":"a/b","ContentID":null}]}`)
	require.Equal(t, http.StatusOK, a.status)
	assert.Equal(t, `"B, C" <b@example.org>, d@example.org`, a.To)
	assert.Regexp(t, `^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`, a.MessageID)
	assert.Regexp(t, `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}[+-]\d\d:\d\d$`, a.SubmittedAt)
	assert.Equal(t, []sim.Mail{{
		ID: "m1", ProviderID: a.MessageID, From: mail.Address{Name: "Ada", Address: "a@example.com"},
		To: []mail.Address{{Name: "B, C", Address: "b@example.org"}, {Address: "d@example.org"}}, Cc: []mail.Address{{Address: "c@example.org"}},
		Bcc: []mail.Address{{Address: "e@example.org"}}, ReplyTo: []mail.Address{{Address: "r@example.com"}}, Subject: "s", Text: "t", HTML: "<p>",
		Headers: map[string]string{"X-Own": "1"}, Tags: []string{"welcome"}, Metadata: map[string]string{"k": "v"},
		Attachments: []sim.Attachment{{Name: "a.csv", Type: "text/csv", ContentID: "i", Data: []byte("a")}, {Name: "b", Type: "a/b", Data: []byte("b")}},
	}}, s.Mails.All())
	req := s.Taken.All()[0]
	assert.Equal(t, []any{true, "<m@x>", ""}, []any{req.TrackOpens, req.Header("message-id"), req.Header("Date")})
}

func TestInactiveRecipientsAreLeftOut(t *testing.T) {
	s := open(t, postmark.Config{})
	s.Suppress("B@example.org", "c@example.org")
	a := post(t, s, good)
	assert.Equal(t, []int{422, 406}, []int{a.status, a.ErrorCode})
	assert.Contains(t, a.Message, "Found inactive addresses: b@example.org. Inactive recipients")
	assert.Zero(t, s.Mails.Len())

	a = post(t, s, strings.Replace(good, `"b@example.org"`, `"b@example.org, d@example.org","Cc":"C@example.org"`, 1))
	assert.Equal(t, []int{200, 0}, []int{a.status, a.ErrorCode})
	assert.Contains(t, a.Message, "Message OK, but will not deliver to these inactive addresses: b@example.org, c@example.org. Inactive")
	got := s.Mails.All()
	require.Len(t, got, 1)
	assert.Equal(t, []mail.Address{{Address: "d@example.org"}}, got[0].To)
	assert.Nil(t, got[0].Cc)
}

func TestFailuresLookLikePostmarks(t *testing.T) {
	s := open(t, postmark.Config{})
	s.Next(postmark.Error(503, 100, "The Postmark API is offline for maintenance."))
	a := post(t, s, good)
	assert.Equal(t, []any{503, 100, "The Postmark API is offline for maintenance.", "100"}, []any{a.status, a.ErrorCode, a.Message, a.header.Get("X-PM-ApiErrorCode")})
	assert.Zero(t, s.Mails.Len())
}
