package resend_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/mail"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/smilefactory/integrations/internal/sim"
	"github.com/smilefactory/integrations/internal/sim/resend"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const good = `{"from":"a@example.com","to":"b@example.org","subject":"s","text":"t","tags":[{"name":"message_id","value":"m1"}]}`

func open(t *testing.T, cfg resend.Config) *resend.Sim {
	t.Helper()
	cfg.Key = "k"
	s := resend.New(cfg)
	t.Cleanup(s.Close)
	return s
}

type answer struct {
	status            int
	StatusCode        int
	Name, Message, ID string
	header            http.Header
}

// post sends a request as it is, changed where the test says so.
func post(t *testing.T, s *resend.Sim, body string, change ...func(*http.Request)) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+resend.Path, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer k")
	for _, c := range change {
		c(req)
	}
	res, err := s.Client().Do(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	data, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	a := answer{status: res.StatusCode, header: res.Header}
	_ = json.Unmarshal(data, &a)
	return a
}

func under(key string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("Idempotency-Key", key) }
}

func people(n int) string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf(`"p%d@example.org"`, i)
	}
	return "[" + strings.Join(all, ",") + "]"
}

func TestEachRuleRefusesAndEntersNothing(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s := open(t, resend.Config{Now: func() time.Time { return now }})
	const from, to, subject, text, tag = `"a@example.com"`, `"b@example.org"`, `"subject":"s"`, `"text":"t"`, `{"name":"message_id","value":"m1"}`
	more := func(s string) string { return subject + "," + s }
	file := func(fields string) string { return more(`"attachments":[{` + fields + `}]`) }
	at := func(at time.Time, form string) string { return more(`"scheduled_at":"` + at.Format(form) + `"`) }
	tags := func(n int) string {
		out := []byte(tag)
		for i := range n {
			out = fmt.Appendf(out, `,{"name":"t%d","value":"v"}`, i)
		}
		return string(out)
	}
	const seconds, micros = "2006-01-02T15:04:05Z", "2006-01-02T15:04:05.000000Z"
	for name, c := range map[string]struct {
		old, with string
		status    int
		name      string
	}{
		"no sender":                {from, `""`, 422, "missing_required_field"},
		"no recipient":             {to, `[]`, 422, "missing_required_field"},
		"no subject":               {subject, `"subject":""`, 422, "missing_required_field"},
		"no body":                  {text, `"text":""`, 422, "missing_required_field"},
		"a bad sender":             {from, `"nobody"`, 400, "validation_error"},
		"two senders":              {from, `"a@example.com, b@example.com"`, 400, "validation_error"},
		"a bad recipient":          {to, `["b@example.org","x"]`, 400, "validation_error"},
		"Unicode before the @":     {to, `"ä@example.org"`, 400, "validation_error"},
		"a bad copy":               {subject, more(`"cc":["x"]`), 400, "validation_error"},
		"a bad blind copy":         {subject, more(`"bcc":"x"`), 400, "validation_error"},
		"a bad reply-to":           {subject, more(`"reply_to":"x"`), 400, "validation_error"},
		"51 recipients":            {to, people(51), 400, "validation_error"},
		"51 in three fields":       {to, people(49) + `,"cc":"c@example.org","bcc":"d@example.org"`, 400, "validation_error"},
		"76 tags":                  {tag, tags(75), 400, "validation_error"},
		"a tag with a space":       {`"m1"`, `"m 1"`, 400, "validation_error"},
		"a tag's value of 257":     {`"m1"`, `"` + strings.Repeat("x", 257) + `"`, 400, "validation_error"},
		"a tag without a value":    {`"m1"`, `""`, 400, "validation_error"},
		"a dot in a tag's name":    {`"message_id"`, `"message.id"`, 400, "validation_error"},
		"a header without a name":  {subject, more(`"headers":{"":"v"}`), 400, "validation_error"},
		"a line break in a header": {subject, more(`"headers":{"X":"a\r\nb"}`), 400, "validation_error"},
		"a number as a header":     {subject, more(`"headers":{"X":1}`), 400, "validation_error"},
		"an empty file":            {subject, file(`"filename":"a"`), 422, "invalid_attachment"},
		"a file that isn't base64": {subject, file(`"filename":"a","content":"!!"`), 400, "validation_error"},
		"a file without a name":    {subject, file(`"content":"YQ=="`), 400, "validation_error"},
		"a program":                {subject, file(`"filename":"a.EXE","content":"YQ=="`), 400, "validation_error"},
		"a content id of 128":      {subject, file(`"filename":"a","content":"YQ==","content_id":"` + strings.Repeat("i", 128) + `"`), 400, "validation_error"},
		"more than 30 days ahead":  {subject, at(now.Add(30*24*time.Hour+time.Second), seconds), 400, "validation_error"},
		"microseconds":             {subject, at(now.Add(time.Hour+time.Microsecond), micros), 400, "validation_error"},
		"a time that isn't one":    {subject, more(`"scheduled_at":"soon"`), 400, "validation_error"},
	} {
		t.Run(name, func(t *testing.T) {
			changed := strings.Replace(good, c.old, c.with, 1)
			require.NotEqual(t, good, changed)
			a := post(t, s, changed, under("key of "+name))
			assert.Equal(t, []any{c.status, c.status, c.name}, []any{a.status, a.StatusCode, a.Name}, a.Message)
			assert.Equal(t, http.StatusOK, post(t, s, good, under("key of "+name)).status, "a key is used by a mail that was sent")
			s.Mails.Clear()
		})
	}

	for name, c := range map[string]struct{ old, with string }{
		"50 recipients":       {to, people(50)},
		"75 tags":             {tag, tags(74)},
		"a content id of 127": {subject, file(`"filename":"a","content":"YQ==","content_id":"` + strings.Repeat("i", 127) + `"`)},
		"30 days ahead":       {subject, at(now.Add(30*24*time.Hour), seconds)},
		"milliseconds":        {subject, at(now.Add(time.Hour+time.Millisecond), "2006-01-02T15:04:05.000Z")},
	} {
		t.Run(name, func(t *testing.T) {
			changed := strings.Replace(good, c.old, c.with, 1)
			require.NotEqual(t, good, changed)
			a := post(t, s, changed)
			assert.Equal(t, http.StatusOK, a.status, a.Message)
			assert.NotEmpty(t, a.ID)
		})
	}
}

func TestWhoAsksAndWithWhatComesFirst(t *testing.T) {
	s := open(t, resend.Config{})
	large := strings.Replace(good, `"t"`, `"`+strings.Repeat("x", 40<<20)+`"`, 1)
	for name, c := range map[string]struct {
		body   string
		change func(*http.Request)
		status int
		name   string
	}{
		"another path":     {good, func(r *http.Request) { r.URL.Path = "/other" }, 404, "not_found"},
		"another method":   {good, func(r *http.Request) { r.Method = http.MethodPut }, 405, "method_not_allowed"},
		"no key":           {good, func(r *http.Request) { r.Header.Del("Authorization") }, 401, "missing_api_key"},
		"a wrong key":      {good, func(r *http.Request) { r.Header.Set("Authorization", "Bearer x") }, 403, "invalid_api_key"},
		"no User-Agent":    {good, func(r *http.Request) { r.Header.Set("User-Agent", "") }, 403, ""},
		"40 MB":            {large, func(*http.Request) {}, 413, "validation_error"},
		"what is no JSON":  {`{"from":`, func(*http.Request) {}, 400, "validation_error"},
		"an empty key":     {good, under(""), 400, "invalid_idempotency_key"},
		"a key of 257":     {good, under(strings.Repeat("k", 257)), 400, "invalid_idempotency_key"},
		"a key of 256":     {good, under(strings.Repeat("k", 256)), 200, ""},
		"no key to repeat": {good, func(*http.Request) {}, 200, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s.Mails.Clear()
			a := post(t, s, c.body, c.change)
			assert.Equal(t, []any{c.status, c.name}, []any{a.status, a.Name})
			assert.Equal(t, c.status == 200, s.Mails.Len() == 1)
		})
	}
	s.SetKey("rotated")
	assert.Equal(t, http.StatusForbidden, post(t, s, good).status)
	s.SetKey("")
	assert.Equal(t, http.StatusForbidden, post(t, s, good, func(r *http.Request) { r.Header.Set("Authorization", "Bearer ") }).status)
}

func TestOneKeyIsOneMailForADay(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s := open(t, resend.Config{Now: func() time.Time { return now }})
	first := post(t, s, good, under("a"))
	require.Equal(t, http.StatusOK, first.status)

	again := post(t, s, good, under("a"))
	assert.Equal(t, []any{200, first.ID}, []any{again.status, again.ID}, "the same answer")
	assert.Equal(t, 1, s.Replayed("a"))
	other := post(t, s, strings.Replace(good, `"s"`, `"other"`, 1), under("a"))
	assert.Equal(t, []any{409, "invalid_idempotent_request"}, []any{other.status, other.Name})
	assert.Equal(t, 1, s.Mails.Len())

	assert.NotEqual(t, first.ID, post(t, s, good, under("b")).ID, "another key is another mail")
	assert.NotEqual(t, first.ID, post(t, s, good).ID, "and so is none")
	assert.Equal(t, 3, s.Mails.Len())

	now = now.Add(24*time.Hour - time.Second)
	assert.Equal(t, first.ID, post(t, s, good, under("a")).ID)
	now = now.Add(time.Second)
	assert.NotEqual(t, first.ID, post(t, s, good, under("a")).ID, "after 24 hours it's forgotten")
	assert.Equal(t, 4, s.Mails.Len())
}

func TestAKeyInUseIsWaitedFor(t *testing.T) {
	s := open(t, resend.Config{})
	release := s.Hold("a")
	a := post(t, s, good, under("a"))
	assert.Equal(t, []any{409, "concurrent_idempotent_requests"}, []any{a.status, a.Name})
	assert.Zero(t, s.Mails.Len())
	release()
	assert.Equal(t, http.StatusOK, post(t, s, good, under("a")).status)
}

func TestAnAnswerThatWasLostIsGivenAgain(t *testing.T) {
	s := open(t, resend.Config{})
	s.Next(sim.Step{Status: http.StatusInternalServerError, Acted: true})
	assert.Equal(t, http.StatusInternalServerError, post(t, s, good, under("a")).status)
	a := post(t, s, good, under("a"))
	assert.Equal(t, s.Mails.All()[0].ProviderID, a.ID)
	assert.Equal(t, 1, s.Mails.Len())

	s.Next(resend.Error(http.StatusInternalServerError, "application_error", "nothing was done"))
	assert.Equal(t, http.StatusInternalServerError, post(t, s, good, under("b")).status)
	assert.Equal(t, http.StatusOK, post(t, s, good, under("b")).status)
	assert.Zero(t, s.Replayed("b"), "a failure is no answer to keep")
}

func TestManyAtOnceUnderOneKeyAreOneMail(t *testing.T) {
	s := open(t, resend.Config{})
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 20 {
				a := post(t, s, good, under("a"))
				assert.Contains(t, []int{http.StatusOK, http.StatusConflict}, a.status)
			}
		})
	}
	wg.Wait()
	assert.Equal(t, 1, s.Mails.Len())
}

func TestAMailIsReadWhole(t *testing.T) {
	s := open(t, resend.Config{})
	a := post(t, s, `{"from":"Ada <a@example.com>","to":["\"B, C\" <b@example.org>","d@example.org"],"cc":"c@example.org","bcc":["e@example.org"],
		"reply_to":["r@example.com"],"subject":"s","text":"t","html":"<p>","headers":{"x-own":"1"},"scheduled_at":"2099-01-02T03:04:05.006Z",
		"tags":[{"name":"message_id","value":"m1"},{"name":"z","value":"1"},{"name":"k","value":"v"}],
		"attachments":[{"filename":"a.csv","content":"YQ==","content_type":"text/csv","content_id":"i"},{"filename":"b.pdf","content":"Yg=="}]}`, under("key"))
	assert.Equal(t, http.StatusBadRequest, a.status, "that far ahead")
	a = post(t, s, `{"from":"Ada <a@example.com>","to":["\"B, C\" <b@example.org>","d@example.org"],"cc":"c@example.org","bcc":["e@example.org"],
		"reply_to":["r@example.com"],"subject":"s","text":"t","html":"<p>","headers":{"x-own":"1"},"scheduled_at":"2006-01-02T03:04:05.006Z",
		"tags":[{"name":"message_id","value":"m1"},{"name":"z","value":"1"},{"name":"k","value":"v"}],
		"attachments":[{"filename":"a.csv","content":"YQ==","content_type":"text/csv","content_id":"i"},{"filename":"b.pdf","content":"Yg=="}]}`, under("key"))
	require.Equal(t, http.StatusOK, a.status)
	assert.Equal(t, []sim.Mail{{
		ID: "m1", ProviderID: a.ID, From: mail.Address{Name: "Ada", Address: "a@example.com"},
		To: []mail.Address{{Name: "B, C", Address: "b@example.org"}, {Address: "d@example.org"}}, Cc: []mail.Address{{Address: "c@example.org"}},
		Bcc: []mail.Address{{Address: "e@example.org"}}, ReplyTo: []mail.Address{{Address: "r@example.com"}}, Subject: "s", Text: "t", HTML: "<p>",
		Headers: map[string]string{"X-Own": "1"}, Tags: []string{"k", "z"}, Metadata: map[string]string{"k": "v", "z": "1"},
		Attachments: []sim.Attachment{{Name: "a.csv", Type: "text/csv", ContentID: "i", Data: []byte("a")}, {Name: "b.pdf", Type: "application/pdf", Data: []byte("b")}},
		SendAt:      time.Date(2006, 1, 2, 3, 4, 5, 6e6, time.UTC), Key: "key",
	}}, s.Mails.All())
}

func TestATextIsMadeOfHTMLUnlessOneIsGiven(t *testing.T) {
	s := open(t, resend.Config{})
	for body, want := range map[string]string{`"html":"<p>"`: "(made of the HTML)", `"html":"<p>","text":""`: "", `"html":"<p>","text":"t"`: "t"} {
		s.Mails.Clear()
		require.Equal(t, http.StatusOK, post(t, s, strings.Replace(good, `"text":"t"`, body, 1)).status)
		assert.Equal(t, want, s.Mails.All()[0].Text)
	}
}

func TestAFileWhoseTypeDoesNotFitMakesTheMailVanish(t *testing.T) {
	s := open(t, resend.Config{})
	a := post(t, s, strings.Replace(good, `"subject"`, `"attachments":[{"filename":"a.txt","content":"YQ==","content_type":"text/csv"}],"subject"`, 1))
	assert.Equal(t, http.StatusOK, a.status)
	assert.Zero(t, s.Mails.Len())
}

func TestFailuresLookLikeResends(t *testing.T) {
	s := open(t, resend.Config{})
	s.Next(resend.RateLimited(7 * time.Second))
	a := post(t, s, good)
	assert.Equal(t, []any{429, 429, "rate_limit_exceeded"}, []any{a.status, a.StatusCode, a.Name})
	assert.Equal(t, []string{"7", "7", "0"}, []string{a.header.Get("Retry-After"), a.header.Get("RateLimit-Reset"), a.header.Get("RateLimit-Remaining")})
	assert.Zero(t, s.Mails.Len())
}
