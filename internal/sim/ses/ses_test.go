package ses_test

import (
	"encoding/base64"
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
	"github.com/smilefactory/integrations/internal/sim/ses"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const good = `{"FromEmailAddress":"a@example.com","Destination":{"ToAddresses":["b@example.org"]},` +
	`"Content":{"Simple":{"Subject":{"Data":"s"},"Body":{"Text":{"Data":"t"}}}},"EmailTags":[{"Name":"message_id","Value":"m1"}]}`

func open(t *testing.T, cfg ses.Config) *ses.Sim {
	t.Helper()
	cfg.AccessKeyID = "AK"
	s := ses.New(cfg)
	t.Cleanup(s.Close)
	return s
}

// answer is what came back: an error's type and message, or the mail's id.
type answer struct {
	status           int
	typ, message, id string
	date             string
	requestIDIsThere bool
}

func post(t *testing.T, s *ses.Sim, body string, change ...func(*http.Request)) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+ses.Path, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AK/20260101/eu-west-1/ses/aws4_request")
	req.Header.Set("X-Amz-Date", time.Now().UTC().Format("20060102T150405Z"))
	for _, c := range change {
		c(req)
	}
	res, err := s.Client().Do(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	data, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	var said struct {
		Message   string `json:"message"`
		MessageID string `json:"MessageId"` //nolint:tagliatelle // SES's name
	}
	require.NoError(t, json.Unmarshal(data, &said), "%s", data)
	return answer{res.StatusCode, res.Header.Get("X-Amzn-Errortype"), said.Message, said.MessageID, res.Header.Get("Date"), res.Header.Get("X-Amzn-Requestid") != ""}
}

// raw is the good mail as MIME.
func raw(message string) string {
	return strings.Replace(good, `"Simple":{"Subject":{"Data":"s"},"Body":{"Text":{"Data":"t"}}}`,
		`"Raw":{"Data":"`+base64.StdEncoding.EncodeToString([]byte(message))+`"}`, 1)
}

func TestEachRuleRefusesAndEntersNothing(t *testing.T) {
	s := open(t, ses.Config{})
	const subject, tag, to = `"Subject":{"Data":"s"}`, `{"Name":"message_id","Value":"m1"}`, `"b@example.org"`
	in := func(s string) string { return s + "," + subject }
	header := func(name, value string) string {
		return in(fmt.Sprintf(`"Headers":[{"Name":%q,"Value":%q}]`, name, value))
	}
	file := func(fields string) string { return in(`"Attachments":[{` + fields + `}]`) }
	tags := func(n int) string {
		out := []byte(tag)
		for i := range n {
			out = fmt.Appendf(out, `,{"Name":"t%d","Value":"v"}`, i)
		}
		return string(out)
	}
	for name, c := range map[string]struct{ old, with, message string }{
		"no recipient":               {to, ``, "Destination is missing"},
		"51 recipients":              {to, to + strings.Repeat(","+to, 50), "exceeds 50"},
		"51 in three lists":          {`[` + to + `]`, `[` + to + `],"CcAddresses":[` + to + strings.Repeat(","+to, 24) + `],"BccAddresses":[` + to + strings.Repeat(","+to, 24) + `]`, "exceeds 50"},
		"a bad recipient":            {`b@example.org`, `nobody`, "Illegal address"},
		"a bad reply-to":             {`"Destination"`, `"ReplyToAddresses":["x"],"Destination"`, "Illegal address"},
		"a bad sender":               {`a@example.com`, `x`, "Illegal address"},
		"Unicode before the @":       {`b@example.org`, `ä@example.org`, "Local address"},
		"Unicode behind the @":       {`b@example.org`, `b@bücher.example`, "Domain contains illegal"},
		"no content":                 {`"Simple"`, `"Other"`, "one of Simple, Raw"},
		"two contents":               {`"Simple"`, `"Raw":{"Data":"YQ=="},"Simple"`, "one of Simple, Raw"},
		"no subject":                 {`"Data":"s"`, `"Data":""`, "Subject and Body"},
		"no body":                    {`"Text":{"Data":"t"}`, ``, "Subject and Body"},
		"a header without a name":    {subject, header("", "v"), "Header"},
		"a header name of 127":       {subject, header(strings.Repeat("x", 127), "v"), "Header"},
		"a header value of 996":      {subject, header("X", strings.Repeat("x", 996)), "Header"},
		"a header of 997":            {subject, header("XX", strings.Repeat("x", 995)), "Header"},
		"a header name with a space": {subject, header("X A", "v"), "Header"},
		"a header name with a colon": {subject, header("X:A", "v"), "Header"},
		"a line break in a header":   {subject, in(`"Headers":[{"Name":"X-A","Value":"x\r\ny"}]`), "Header"},
		"Unicode in a header":        {subject, header("X-A", "ä"), "Header"},
		"a header that SES sets":     {subject, header("message-ID", "<a@b>"), "not allowed"},
		"a file without a name":      {subject, file(`"RawContent":"YQ=="`), "FileName"},
		"a file's name of 256":       {subject, file(`"FileName":"` + strings.Repeat("x", 256) + `","RawContent":"YQ=="`), "FileName"},
		"a media type of 79":         {subject, file(`"FileName":"a","ContentType":"` + strings.Repeat("x", 79) + `"`), "ContentType or ContentId"},
		"a content id of 79":         {subject, file(`"FileName":"a","ContentId":"` + strings.Repeat("x", 79) + `"`), "ContentType or ContentId"},
		"another disposition":        {subject, file(`"FileName":"a","ContentDisposition":"inline"`), "ContentDisposition"},
		"40 MB after base64":         {`"Data":"t"`, `"Data":"` + strings.Repeat("x", 40<<20+1) + `"`, "Message length"},
		"51 tags":                    {tag, tags(50), "Too many tags"},
		"a space in a tag's value":   {`"m1"`, `"m 1"`, "Invalid tag"},
		"a tag's value of 257":       {`"m1"`, `"` + strings.Repeat("x", 257) + `"`, "Invalid tag"},
		"a tag without a value":      {`"m1"`, `""`, "Invalid tag"},
		"a dot in a tag's name":      {`"message_id"`, `"message.id"`, "Invalid tag"},
		"a tag twice":                {tag, tag + `,{"Name":"message_id","Value":"m2"}`, "Duplicate tag"},
		"a raw mail that is none":    {good, raw("hello"), "can't be parsed"},
		"a raw line of 999":          {good, raw("From: a@example.com\r\n\r\n" + strings.Repeat("x", 999)), "too long"},
		"a raw mail of 40 MB":        {good, raw("From: a@example.com\r\n\r\n" + strings.Repeat("x\r\n", 14<<20)), "Message length"},
	} {
		t.Run(name, func(t *testing.T) {
			changed := strings.Replace(good, c.old, c.with, 1)
			require.NotEqual(t, good, changed)
			a := post(t, s, changed)
			assert.Equal(t, []any{http.StatusBadRequest, "BadRequestException", true}, []any{a.status, a.typ, a.requestIDIsThere})
			assert.Contains(t, a.message, c.message)
		})
	}
	assert.Zero(t, s.Mails.Len())

	for name, c := range map[string]struct{ old, with string }{
		"50 recipients":        {to, to + strings.Repeat(","+to, 49)},
		"50 tags":              {tag, tags(49)},
		"a thread's root":      {subject, header("References", "<t-1@example.com>")},
		"a header of 996":      {subject, header("X", strings.Repeat("x", 995))},
		"a header name of 126": {subject, header(strings.Repeat("x", 126), "v")},
		"a file at its limits": {subject, file(`"FileName":"` + strings.Repeat("x", 255) + `","ContentType":"` + strings.Repeat("x", 78) + `","ContentId":"` + strings.Repeat("x", 78) + `","ContentDisposition":"INLINE"`)},
		"a raw line of 998":    {good, raw("From: a@example.com\r\n\r\n" + strings.Repeat("x", 998))},
		"Punycode":             {`b@example.org`, `b@xn--bcher-kva.example`},
	} {
		t.Run(name, func(t *testing.T) {
			changed := strings.Replace(good, c.old, c.with, 1)
			require.NotEqual(t, good, changed)
			a := post(t, s, changed)
			assert.Equal(t, http.StatusOK, a.status, a.message)
			assert.NotEmpty(t, a.id)
		})
	}
}

func TestWhoAsksComesFirst(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s := open(t, ses.Config{ConfigurationSet: "ours", Now: func() time.Time { return now }})
	at := func(d time.Duration) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("X-Amz-Date", now.Add(d).Format("20060102T150405Z")) }
	}
	for name, c := range map[string]struct {
		body   string
		change func(*http.Request)
		status int
		typ    string
	}{
		"another path":              {good, func(r *http.Request) { r.URL.Path = "/v2/email/other" }, 404, "UnknownOperationException"},
		"another method":            {good, func(r *http.Request) { r.Method = http.MethodPut }, 404, "UnknownOperationException"},
		"no signature":              {good, func(r *http.Request) { r.Header.Del("Authorization") }, 403, "MissingAuthenticationTokenException"},
		"another's signature":       {good, func(r *http.Request) { r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=OTHER/x") }, 403, "UnrecognizedClientException"},
		"no date":                   {good, func(r *http.Request) { r.Header.Del("X-Amz-Date") }, 403, "IncompleteSignature"},
		"five minutes ago":          {good, at(-5 * time.Minute), 200, ""},
		"more than five minutes":    {good, at(-5*time.Minute - time.Second), 403, "InvalidSignatureException"},
		"in more than five minutes": {good, at(5*time.Minute + time.Second), 403, "InvalidSignatureException"},
		"what is no JSON":           {`{"a":`, at(0), 400, "SerializationException"},
		"the set that there is":     {strings.Replace(good, `{`, `{"ConfigurationSetName":"ours",`, 1), at(0), 200, ""},
		"another set":               {strings.Replace(good, `{`, `{"ConfigurationSetName":"other",`, 1), at(0), 404, "NotFoundException"},
	} {
		t.Run(name, func(t *testing.T) {
			a := post(t, s, c.body, at(0), c.change)
			assert.Equal(t, []any{c.status, c.typ}, []any{a.status, a.typ})
			assert.Equal(t, "Fri, 02 Jan 2026 03:04:05 GMT", a.date, "by which a caller can set its clock")
		})
	}
	assert.Equal(t, 2, s.Mails.Count("m1"))

	nobody := ses.New(ses.Config{})
	defer nobody.Close()
	a := post(t, nobody, good, func(r *http.Request) { r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=/x") })
	assert.Equal(t, "UnrecognizedClientException", a.typ)
}

func TestAMailIsReadWhole(t *testing.T) {
	s := open(t, ses.Config{})
	a := post(t, s, `{"FromEmailAddress": "A <a@example.com>", "ReplyToAddresses": ["r@example.com"],
		"Destination": {"ToAddresses": ["B <b@example.org>"], "CcAddresses": ["c@example.org"], "BccAddresses": ["d@example.org"]},
		"Content": {"Simple": {"Subject": {"Data": "s"}, "Body": {"Text": {"Data": "t"}, "Html": {"Data": "<p>"}}, "Headers": [{"Name": "x-own", "Value": "1"}],
			"Attachments": [{"FileName": "a.csv", "ContentType": "text/csv", "ContentId": "i", "RawContent": "YQ=="}]}},
		"EmailTags": [{"Name": "message_id", "Value": "m1"}, {"Name": "k", "Value": "v"}]}`)
	want := sim.Mail{
		ID: "m1", ProviderID: a.id, From: mail.Address{Name: "A", Address: "a@example.com"}, To: []mail.Address{{Name: "B", Address: "b@example.org"}},
		Cc: []mail.Address{{Address: "c@example.org"}}, Bcc: []mail.Address{{Address: "d@example.org"}}, ReplyTo: []mail.Address{{Address: "r@example.com"}},
		Subject: "s", Text: "t", HTML: "<p>", Headers: map[string]string{"X-Own": "1"}, Tags: []string{"k"}, Metadata: map[string]string{"k": "v"},
		Attachments: []sim.Attachment{{Name: "a.csv", Type: "text/csv", ContentID: "i", Data: []byte("a")}},
	}
	assert.Equal(t, []sim.Mail{want}, s.Mails.All())

	s.Mails.Clear()
	post(t, s, raw("From: A <a@example.com>\r\nSubject: s\r\nX-Message-Id: other\r\n\r\nt"))
	got := s.Mails.All()[0]
	assert.Equal(t, []string{"m1", "A", "s", "t", "b@example.org"}, []string{got.ID, got.From.Name, got.Subject, got.Text, got.To[0].Address})
}

func TestFailuresLookLikeSESs(t *testing.T) {
	s := open(t, ses.Config{})
	s.Next(ses.Error(429, "TooManyRequestsException", "slow"))
	a := post(t, s, good)
	assert.Equal(t, []any{429, "TooManyRequestsException", "slow", true}, []any{a.status, a.typ, a.message, a.requestIDIsThere})
	assert.Zero(t, s.Mails.Len())
}
