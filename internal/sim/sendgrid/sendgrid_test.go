package sendgrid_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
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

const key = "SG.test"

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func open(t *testing.T) *sendgrid.Sim {
	t.Helper()
	sg := sendgrid.New(sendgrid.Config{Key: key, Now: func() time.Time { return now }})
	t.Cleanup(sg.Close)
	return sg
}

type object = map[string]any

// valid is the smallest mail that is taken.
func valid() object {
	return object{
		"personalizations": []object{{"to": []object{{"email": "a@example.com"}}}},
		"from":             object{"email": "f@example.com"},
		"subject":          "hello",
		"content":          []object{{"type": "text/plain", "value": "hi"}},
	}
}

// with is a valid mail in which some fields are others; nil drops a field.
func with(fields object) object {
	m := valid()
	maps.Copy(m, fields)
	maps.DeleteFunc(m, func(_ string, v any) bool { return v == nil })
	return m
}

// to is a mail whose only personalization has these fields too.
func to(fields object) object {
	p := object{"to": []object{{"email": "a@example.com"}}}
	maps.Copy(p, fields)
	return with(object{"personalizations": []object{p}})
}

type answer struct {
	status int
	header http.Header
	Errors []struct{ Message, Field string }
}

func post(t *testing.T, sg *sendgrid.Sim, body []byte, change ...func(*http.Request)) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, sg.URL+sendgrid.Path, bytes.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Content-Type", "application/json")
	for _, f := range change {
		f(req)
	}
	resp, err := sg.Client().Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	out := answer{status: resp.StatusCode, header: resp.Header}
	if len(raw) > 0 {
		require.NoError(t, json.Unmarshal(raw, &out))
	}
	return out
}

func send(t *testing.T, sg *sendgrid.Sim, mail object, change ...func(*http.Request)) answer {
	t.Helper()
	body, err := json.Marshal(mail)
	require.NoError(t, err)
	return post(t, sg, body, change...)
}

func TestAMailIsTakenAndKept(t *testing.T) {
	sg := open(t)
	got := send(t, sg, to(object{"custom_args": object{"message_id": "m-1", "order": "7"}}))
	assert.Equal(t, http.StatusAccepted, got.status)
	assert.Empty(t, got.Errors)
	require.Equal(t, 1, sg.Mails.Count("m-1"))
	m := sg.Mails.All()[0]
	assert.Equal(t, got.header.Get("X-Message-Id"), m.ProviderID)
	assert.NotEmpty(t, m.ProviderID)
	assert.Equal(t, map[string]string{"order": "7"}, m.Metadata)
	assert.Equal(t, "hi", m.Text)
}

func TestEachPersonalizationIsAMail(t *testing.T) {
	sg := open(t)
	got := send(t, sg, with(object{
		"custom_args": object{"a": "whole", "b": "whole"},
		"personalizations": []object{
			{"to": []object{{"email": "a@example.com"}}, "custom_args": object{"message_id": "1", "a": "own"}},
			{"to": []object{{"email": "b@example.com"}}, "custom_args": object{"message_id": "2"}, "subject": "own"},
		},
	}))
	assert.Equal(t, http.StatusAccepted, got.status)
	assert.Empty(t, sg.Mails.Missing("1", "2"))
	first, second := sg.Mails.All()[0], sg.Mails.All()[1]
	assert.Equal(t, map[string]string{"a": "own", "b": "whole"}, first.Metadata)
	assert.Equal(t, map[string]string{"a": "whole", "b": "whole"}, second.Metadata)
	assert.Equal(t, []string{"hello", "own"}, []string{first.Subject, second.Subject})
}

func TestTheSandboxAnswers200AndKeepsNothing(t *testing.T) {
	sg := open(t)
	got := send(t, sg, with(object{"mail_settings": object{"sandbox_mode": object{"enable": true}}}))
	assert.Equal(t, http.StatusOK, got.status)
	assert.Zero(t, sg.Mails.Len())
}

func TestAGzippedMailIsTaken(t *testing.T) {
	sg := open(t)
	body, err := json.Marshal(valid())
	require.NoError(t, err)
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, err = z.Write(body)
	require.NoError(t, err)
	require.NoError(t, z.Close())
	got := post(t, sg, zipped.Bytes(), header("Content-Encoding", "gzip"))
	assert.Equal(t, http.StatusAccepted, got.status)
	assert.Equal(t, http.StatusBadRequest, post(t, sg, body, header("Content-Encoding", "gzip")).status)
}

func header(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

func TestWhatIsRefusedWithoutALookAtTheMail(t *testing.T) {
	mail, err := json.Marshal(valid())
	require.NoError(t, err)
	for name, tt := range map[string]struct {
		change func(*http.Request)
		body   []byte
		status int
	}{
		"another path":    {func(r *http.Request) { r.URL.Path = "/v3/mail" }, mail, http.StatusNotFound},
		"another method":  {func(r *http.Request) { r.Method = http.MethodPut }, mail, http.StatusMethodNotAllowed},
		"no key":          {func(r *http.Request) { r.Header.Del("Authorization") }, mail, http.StatusUnauthorized},
		"another key":     {header("Authorization", "Bearer other"), mail, http.StatusUnauthorized},
		"another type":    {header("Content-Type", "text/plain"), mail, http.StatusUnsupportedMediaType},
		"not UTF-8":       {header("X", "y"), []byte("{\"subject\":\"\xff\"}"), http.StatusUnsupportedMediaType},
		"no JSON":         {header("X", "y"), []byte("{"), http.StatusBadRequest},
		"30 MB":           {header("X", "y"), bytes.Repeat([]byte(" "), 30<<20), http.StatusRequestEntityTooLarge},
		"more than 30 MB": {header("X", "y"), bytes.Repeat([]byte(" "), 31<<20), http.StatusRequestEntityTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			sg := open(t)
			got := post(t, sg, tt.body, tt.change)
			assert.Equal(t, tt.status, got.status)
			assert.NotEmpty(t, got.Errors)
			assert.Zero(t, sg.Mails.Len())
		})
	}
}

func TestARotatedKeyIsLetIn(t *testing.T) {
	sg := open(t)
	sg.SetKey("SG.new")
	assert.Equal(t, http.StatusUnauthorized, send(t, sg, valid()).status)
	assert.Equal(t, http.StatusAccepted, send(t, sg, valid(), header("Authorization", "Bearer SG.new")).status)
	sg.SetKey("")
	assert.Equal(t, http.StatusUnauthorized, send(t, sg, valid(), header("Authorization", "Bearer ")).status, "an empty key lets nobody in")
}

func people(n int) []object {
	out := make([]object, n)
	for i := range out {
		out[i] = object{"email": fmt.Sprintf("p%d@example.com", i)}
	}
	return out
}

func TestEachRuleRefusesAndNamesTheField(t *testing.T) {
	file := func(fields object) object {
		f := object{"content": "YQ==", "filename": "a.txt"}
		maps.Copy(f, fields)
		return with(object{"attachments": []object{f}})
	}
	content := func(list ...object) object { return with(object{"content": list}) }
	for name, tt := range map[string]struct {
		field string
		mail  object
	}{
		"no from":                    {"from.email", with(object{"from": nil})},
		"a bad from":                 {"from.email", with(object{"from": object{"email": "f"}})},
		"Unicode in from":            {"from.email", with(object{"from": object{"email": "ü@example.com"}})},
		"a line break in a name":     {"from.name", with(object{"from": object{"email": "f@example.com", "name": "a\r\nb"}})},
		"a bad reply_to":             {"reply_to.email", with(object{"reply_to": object{"email": "f"}})},
		"both reply-tos":             {"reply_to_list", with(object{"reply_to": people(1)[0], "reply_to_list": people(1)})},
		"1001 reply-tos":             {"reply_to_list", with(object{"reply_to_list": people(1001)})},
		"no personalizations":        {"personalizations", with(object{"personalizations": nil})},
		"no to":                      {"personalizations.0.to", to(object{"to": nil})},
		"a bad to":                   {"personalizations.0.to.0.email", to(object{"to": []object{{"email": "x"}}})},
		"a comma in a name":          {"personalizations.0.cc.0.name", to(object{"cc": []object{{"email": "c@example.com", "name": "a,b"}}})},
		"an address twice":           {"personalizations.0", to(object{"bcc": []object{{"email": "A@example.com"}}})},
		"1001 recipients":            {"personalizations", to(object{"to": people(1001)})},
		"no subject":                 {"subject", with(object{"subject": nil})},
		"an empty subject":           {"subject", with(object{"subject": ""})},
		"an empty own subject":       {"personalizations.0.subject", to(object{"subject": ""})},
		"no content":                 {"content", with(object{"content": nil})},
		"empty content":              {"content.0.value", content(object{"type": "text/plain", "value": ""})},
		"a type with a parameter":    {"content.0.type", content(object{"type": "text/plain; charset=utf-8", "value": "a"})},
		"HTML before text":           {"content", content(object{"type": "text/html", "value": "a"}, object{"type": "text/plain", "value": "a"})},
		"an empty file":              {"attachments.0.content", file(object{"content": ""})},
		"no base64":                  {"attachments.0.content", file(object{"content": "!"})},
		"no file name":               {"attachments.0.filename", file(object{"filename": ""})},
		"a file type with parameter": {"attachments.0.type", file(object{"type": "text/plain; a=b"})},
		"a wrong disposition":        {"attachments.0.disposition", file(object{"disposition": "x"})},
		"a line break in content id": {"attachments.0.content_id", file(object{"content_id": "a\nb"})},
		"11 categories":              {"categories", with(object{"categories": strings.Split("abcdefghijk", "")})},
		"a category twice":           {"categories", with(object{"categories": []string{"a", "a"}})},
		"a long category":            {"categories", with(object{"categories": []string{strings.Repeat("a", 256)}})},
		"a Unicode category":         {"categories", with(object{"categories": []string{"ü"}})},
		"a reserved header":          {"headers", with(object{"headers": object{"BCC": "x@example.com"}})},
		"a header twice":             {"headers", with(object{"headers": object{"X-a": "1", "x-A": "1"}})},
		"a header that is no string": {"headers", with(object{"headers": object{"X-a": 1}})},
		"a header with a line break": {"headers", with(object{"headers": object{"X-a": "a\r\nb"}})},
		"empty custom args":          {"custom_args", with(object{"custom_args": object{}})},
		"a number as custom arg":     {"personalizations.0.custom_args", to(object{"custom_args": object{"a": 1}})},
		"10,000 bytes of args":       {"personalizations.0.custom_args", to(object{"custom_args": object{"a": strings.Repeat("x", 10_000)}})},
		"more than 72 hours ahead":   {"send_at", with(object{"send_at": now.Add(73 * time.Hour).Unix()})},
		"the same in its own":        {"personalizations.0.send_at", to(object{"send_at": now.Add(73 * time.Hour).Unix()})},
	} {
		t.Run(name, func(t *testing.T) {
			sg := open(t)
			got := send(t, sg, tt.mail)
			assert.Equal(t, http.StatusBadRequest, got.status)
			var fields []string
			for _, e := range got.Errors {
				fields = append(fields, e.Field)
				assert.NotEmpty(t, e.Message)
			}
			assert.Contains(t, fields, tt.field)
			assert.Zero(t, sg.Mails.Len())
		})
	}
}

func TestTheLimitsThemselvesAreTaken(t *testing.T) {
	for name, mail := range map[string]object{
		"1000 recipients": to(object{"to": people(1000)}),
		"72 hours ahead":  with(object{"send_at": now.Add(72 * time.Hour).Unix()}),
		"the past":        with(object{"send_at": now.Add(-time.Hour).Unix()}),
		"10 categories":   with(object{"categories": strings.Split("abcdefghij", "")}),
		"a comma in from": with(object{"from": object{"email": "f@example.com", "name": "Acme, Inc."}}),
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, http.StatusAccepted, send(t, open(t), mail).status)
		})
	}
}

func TestTheStepsOfAnErrorAndARateLimit(t *testing.T) {
	sg := open(t)
	sg.Next(sendgrid.Error(http.StatusUnauthorized, "Maximum credits exceeded"), sendgrid.RateLimited(now))
	got := send(t, sg, valid())
	assert.Equal(t, http.StatusUnauthorized, got.status)
	assert.Equal(t, "Maximum credits exceeded", got.Errors[0].Message)
	got = send(t, sg, valid())
	assert.Equal(t, http.StatusTooManyRequests, got.status)
	assert.Equal(t, fmt.Sprint(now.Unix()), got.header.Get("X-RateLimit-Reset"))
	assert.Zero(t, sg.Mails.Len())
	assert.Equal(t, http.StatusAccepted, send(t, sg, valid()).status)
}

func TestAnIdempotencyKeyIsSeenAndNotHonoured(t *testing.T) {
	sg := open(t)
	for range 2 {
		send(t, sg, to(object{"custom_args": object{sim.IDKey: "m"}}), header("Idempotency-Key", "k"))
	}
	assert.Equal(t, []string{"m"}, sg.Mails.Doubled())
	assert.Equal(t, "k", sg.Mails.All()[0].Key)
}
