package email_test

import (
	"errors"
	"fmt"
	"mime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/fault"
)

// problems are the fields that an error names, each with what is wrong.
func problems(err error) map[string]string {
	out := map[string]string{}
	var walk func(error)
	walk = func(err error) {
		switch e := err.(type) { //nolint:errorlint // the tree is walked by hand
		case nil:
		case *email.FieldError:
			out[e.Field] = e.Problem
		case interface{ Unwrap() []error }:
			for _, inner := range e.Unwrap() {
				walk(inner)
			}
		}
	}
	walk(err)
	return out
}

// refuses checks that Validate names that field alone, and says why.
func refuses(t *testing.T, m *email.Message, field, why string) {
	t.Helper()
	err := m.Validate()
	require.ErrorIs(t, err, fault.Invalid)
	found := problems(err)
	require.Contains(t, found, field, "%v", err)
	assert.Contains(t, found[field], why)
	assert.Len(t, found, 1, "%v", err)
}

// settings put a text into each field of a message that reaches a header, by the
// name that an error gives it.
var settings = map[string]func(*email.Message, string){
	"from.name":                 func(m *email.Message, s string) { m.From.Name = s },
	"to[0].name":                func(m *email.Message, s string) { m.To[0].Name = s },
	"cc[0].name":                func(m *email.Message, s string) { m.Cc = []email.Address{{Name: s, Address: "cc@example.org"}} },
	"bcc[0].name":               func(m *email.Message, s string) { m.Bcc = []email.Address{{Name: s, Address: "bcc@example.org"}} },
	"reply_to[0].name":          func(m *email.Message, s string) { m.ReplyTo = []email.Address{{Name: s, Address: "r@example.com"}} },
	"subject":                   func(m *email.Message, s string) { m.Subject = s },
	"headers[X-A]":              func(m *email.Message, s string) { m.Headers = map[string]string{"X-A": s} },
	"tags[0]":                   func(m *email.Message, s string) { m.Tags = []string{s} },
	"metadata[k]":               func(m *email.Message, s string) { m.Metadata = map[string]string{"k": s} },
	"attachments[0].name":       func(m *email.Message, s string) { m.Attachments = []email.Attachment{{Name: s}} },
	"attachments[0].content_id": func(m *email.Message, s string) { m.Attachments = []email.Attachment{{Name: "a", ContentID: s}} },
}

// strict are the fields of a narrower form, which an error names all the same.
var strict = map[string]func(*email.Message, string){
	"from.address":        func(m *email.Message, s string) { m.From.Address = s + "@example.com" },
	"to[0].address":       func(m *email.Message, s string) { m.To[0].Address = s + "@example.com" },
	"cc[0].address":       func(m *email.Message, s string) { m.Cc = []email.Address{{Address: "a@example.com" + s}} },
	"bcc[0].address":      func(m *email.Message, s string) { m.Bcc = []email.Address{{Address: s + "@example.com"}} },
	"reply_to[0].address": func(m *email.Message, s string) { m.ReplyTo = []email.Address{{Address: s + "@example.com"}} },
	"headers":             func(m *email.Message, s string) { m.Headers = map[string]string{"X" + s: "v"} },
	"unsubscribe.url":     func(m *email.Message, s string) { m.Unsubscribe.URL = "https://example.com/" + s },
	"unsubscribe.mailto":  func(m *email.Message, s string) { m.Unsubscribe.Mailto = "leave" + s + "@example.com" },
	"attachments[0].content_type": func(m *email.Message, s string) {
		m.Attachments = []email.Attachment{{Name: "a", ContentType: "text/" + s}}
	},
	"locale":          func(m *email.Message, s string) { m.Locale = "de" + s },
	"id":              func(m *email.Message, s string) { m.ID = "m" + s },
	"idempotency_key": func(m *email.Message, s string) { m.IdempotencyKey = "k" + s },
	"metadata":        func(m *email.Message, s string) { m.Metadata = map[string]string{"k" + s: "v"} },
}

func TestNoFieldThatReachesAHeaderHoldsALineBreak(t *testing.T) {
	for _, fields := range []map[string]func(*email.Message, string){settings, strict} {
		for field, set := range fields {
			for name, s := range map[string]string{
				"CR": "a\rb", "LF": "a\nb", "CRLF and a header": "a\r\nBcc: b@example.com", "NUL": "a\x00b", "a control character": "a\x07b", "DEL": "a\x7fb",
			} {
				t.Run(field+"/"+name, func(t *testing.T) {
					m := hello()
					set(m, s)
					refuses(t, m, field, "")
				})
			}
		}
	}
}

// A reader decodes what looks like an encoded word, whoever wrote it.
func TestNoFieldHidesALineBreakInAnEncodedWord(t *testing.T) {
	for field, set := range settings {
		if field == "attachments[0].name" {
			continue // a slash or not, it is refused as a path already
		}
		for name, s := range map[string]string{
			"quoted-printable": "=?utf-8?q?a=0D=0ABcc:_b?=",
			"base64":           "=?utf-8?b?YQ0KQmNjOiBi?=",
			"another charset":  "=?windows-1250?q?a=0D=0Ab?=",
			"behind a text":    "hello =?utf-8?q?a=0Ab?= there",
			"NUL":              "=?utf-8?q?a=00b?=",
		} {
			t.Run(field+"/"+name, func(t *testing.T) {
				m := hello()
				set(m, s)
				refuses(t, m, field, "")
			})
		}
	}
	for _, harmless := range []string{"=?", "what =? that", "=?utf-8?q?Gr=C3=BC=C3=9Fe?=", "=?utf-8?q?=ZZ?=", "=?x?y?z?="} {
		m := hello()
		m.Subject = harmless
		assert.NoError(t, m.Validate(), harmless)
	}
}

func TestAnAddressIsOneThatAMailServerTakes(t *testing.T) {
	label := strings.Repeat("d", 63)
	for _, tt := range []struct{ addr, why string }{
		{"ada@example.com", ""},
		{"first.last+tag@sub.example.com", ""},
		{"o'brien_!#$%&*/=?^`{|}~-@example.com", ""},
		{"jürgen@example.com", ""},
		{"ada@bücher.example", ""},
		{"ada@xn--bcher-kva.example", ""},
		{"ADA@EXAMPLE.COM", ""},
		{strings.Repeat("l", 64) + "@example.com", ""},
		{strings.Repeat("l", 65) + "@example.com", "longer than 64"},
		{"a@" + label + ".com", ""},
		{"a@" + label + "d.com", "invalid domain"},
		{"a@" + strings.Repeat(label+".", 3) + strings.Repeat("d", 60), ""},
		{"a@" + strings.Repeat(label+".", 3) + strings.Repeat("d", 61), "longer than 254"},
		{"a@" + strings.Repeat("ü", 50) + "." + label + "." + label + "." + label, "longer than 254"},
		{"", "required"},
		{"ada", "local@domain"},
		{"@example.com", "local@domain"},
		{"ada@", "local@domain"},
		{"ada@@example.com", "not a valid address"},
		{"ada@-example.com", "invalid domain"},
		{"ada@example-.com", "invalid domain"},
		{"ada@exa_mple.com", "invalid domain"},
		{"ada@example..com", "not a valid address"},
		{"ada@.example.com", "not a valid address"},
		{"ada@[127.0.0.1]", "invalid domain"},
		{"ada@exam\u00adple.com", "invisible"}, // a soft hyphen, which IDNA drops
		{".ada@example.com", "not a valid address"},
		{"ada.@example.com", "not a valid address"},
		{"a..b@example.com", "not a valid address"},
		{"Ada <ada@example.com>", "spaces"},
		{"<ada@example.com>", "not a valid address"},
		{"ada@example.com,grace@example.org", "not a valid address"},
		{"group:ada@example.com;", "not a valid address"},
		{"ada(comment)@example.com", "not a valid address"},
		{`"ada"@example.com`, "not a valid address"},
		{`"a,b"@example.com`, "not a valid address"},
		{"=?utf-8?q?a?=@example.com", ""},
		{"ada@example.com\r\nBcc:b@example.com", "invisible characters"},
		{"ada\u00a0@example.com", "spaces"},
		{"ada@example.com\u2028", "invisible"},
		{"ada@exa mple.com", "spaces"},
		{"ada\xff@example.com", "invisible characters"},
	} {
		t.Run(tt.addr, func(t *testing.T) {
			m := hello()
			m.To[0].Address = tt.addr
			if tt.why == "" {
				require.NoError(t, m.Validate())
				return
			}
			refuses(t, m, "to[0].address", tt.why)
			if len(tt.addr) > 4 {
				assert.NotContains(t, m.Validate().Error(), tt.addr, "no value is quoted")
			}
		})
	}
}

// sized sets a field to a size, which is allowed up to most.
var sized = map[string]struct {
	most int
	why  string
	set  func(*email.Message, int)
}{
	"from.name":           {320, "320", func(m *email.Message, n int) { m.From.Name = strings.Repeat("x", n) }},
	"to[0].name":          {320, "320", func(m *email.Message, n int) { m.To[0].Name = strings.Repeat("ü", n/2) + strings.Repeat("x", n%2) }},
	"subject":             {989, "989", func(m *email.Message, n int) { m.Subject = strings.Repeat("x", n) }},
	"headers[X-A]":        {993, "993", func(m *email.Message, n int) { m.Headers = map[string]string{"X-A": strings.Repeat("x", n)} }},
	"headers":             {76, "76", func(m *email.Message, n int) { m.Headers = map[string]string{strings.Repeat("x", n): "v"} }},
	"tags[0]":             {255, "255", func(m *email.Message, n int) { m.Tags = []string{strings.Repeat("x", n)} }},
	"metadata[k]":         {1024, "1024", func(m *email.Message, n int) { m.Metadata = map[string]string{"k": strings.Repeat("x", n)} }},
	"metadata":            {128, "128", func(m *email.Message, n int) { m.Metadata = map[string]string{strings.Repeat("x", n): "v"} }},
	"attachments[0].name": {255, "255", func(m *email.Message, n int) { m.Attachments = []email.Attachment{{Name: strings.Repeat("x", n)}} }},
	"attachments[0].content_id": {255, "255", func(m *email.Message, n int) {
		m.Attachments = []email.Attachment{{Name: "a", ContentID: strings.Repeat("x", n)}}
	}},
	"attachments[0].content_type": {255, "255", func(m *email.Message, n int) {
		m.Attachments = []email.Attachment{{Name: "a", ContentType: "text/" + strings.Repeat("x", n-5)}}
	}},
	"unsubscribe.url": {900, "900", func(m *email.Message, n int) { m.Unsubscribe.URL = "https://example.com/" + strings.Repeat("x", n-20) }},
	"id":              {64, "64", func(m *email.Message, n int) { m.ID = strings.Repeat("x", n) }},
	"idempotency_key": {255, "255", func(m *email.Message, n int) { m.IdempotencyKey = strings.Repeat("x", n) }},
	"locale":          {35, "35", func(m *email.Message, n int) { m.Locale = strings.Repeat("x", n) }},
}

// counted sets how many there are of something.
var counted = map[string]struct {
	most int
	set  func(*email.Message, int)
}{
	"to": {1000, func(m *email.Message, n int) {
		m.To, m.Cc, m.Bcc = people("to", n-600), people("cc", 300), people("bcc", 300)
	}},
	"reply_to":    {50, func(m *email.Message, n int) { m.ReplyTo = people("r", n) }},
	"attachments": {100, func(m *email.Message, n int) { m.Attachments = files(n) }},
	"headers":     {50, func(m *email.Message, n int) { m.Headers = numbered("X-", n) }},
	"metadata":    {50, func(m *email.Message, n int) { m.Metadata = numbered("k", n) }},
	"tags":        {10, func(m *email.Message, n int) { m.Tags = texts(n) }},
}

func people(prefix string, n int) []email.Address {
	out := make([]email.Address, n)
	for i := range out {
		out[i].Address = fmt.Sprintf("%s%d@example.org", prefix, i)
	}
	return out
}

func files(n int) []email.Attachment {
	out := make([]email.Attachment, n)
	for i, name := range texts(n) {
		out[i].Name = name
	}
	return out
}

func texts(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("t%d", i)
	}
	return out
}

func numbered(prefix string, n int) map[string]string {
	out := map[string]string{}
	for _, s := range texts(n) {
		out[prefix+s] = "v"
	}
	return out
}

func TestALimitIsAllowedAndOneMoreIsNot(t *testing.T) {
	for field, tt := range sized {
		t.Run(field, func(t *testing.T) {
			m := hello()
			tt.set(m, tt.most)
			require.NoError(t, m.Validate())
			m = hello()
			tt.set(m, tt.most+1)
			refuses(t, m, field, tt.why)
		})
	}
	for field, tt := range counted {
		t.Run("how many "+field, func(t *testing.T) {
			m := hello()
			tt.set(m, tt.most)
			require.NoError(t, m.Validate())
			m = hello()
			tt.set(m, tt.most+1)
			refuses(t, m, field, fmt.Sprint(tt.most))
		})
	}
	t.Run("the whole mail", func(t *testing.T) {
		m := hello()
		m.Text, m.HTML = strings.Repeat("x", 10<<20), strings.Repeat("x", 10<<20)
		m.Attachments = []email.Attachment{{Name: "a", Data: make([]byte, 20<<20)}}
		require.NoError(t, m.Validate())
		assert.Equal(t, email.MaxSize, m.Size())
		m.Text += "x"
		refuses(t, m, "attachments", "41943041 bytes")
	})
}

func TestAFieldHasItsForm(t *testing.T) {
	for name, tt := range map[string]struct {
		field, why string // no field: it is allowed
		change     func(*email.Message)
	}{
		"no recipient":                  {"to", "at least one", func(m *email.Message) { m.To = nil }},
		"a recipient in bcc alone":      {"", "", func(m *email.Message) { m.To, m.Bcc = nil, m.To }},
		"a recipient twice":             {"cc[0].address", "same as to[0].address", func(m *email.Message) { m.Cc = []email.Address{{Address: "GRACE@example.org"}} }},
		"a recipient twice in one list": {"to[1].address", "same as to[0].address", func(m *email.Message) { m.To = append(m.To, m.To[0]) }},
		"no sender":                     {"from.address", "required", func(m *email.Message) { m.From = email.Address{} }},
		"the sender as recipient":       {"", "", func(m *email.Message) { m.To[0] = m.From }},
		"no subject":                    {"subject", "required", func(m *email.Message) { m.Subject = "" }},
		"neither text nor HTML":         {"text", "required", func(m *email.Message) { m.Text = "" }},
		"HTML alone":                    {"", "", func(m *email.Message) { m.Text, m.HTML = "", "<p>" }},
		"NUL in the text":               {"text", "NUL", func(m *email.Message) { m.Text = "a\x00" }},
		"line breaks in the text":       {"", "", func(m *email.Message) { m.Text = "a\r\nb\nc\rd" }},
		"a text that is not UTF-8":      {"text", "UTF-8", func(m *email.Message) { m.Text = "\xff" }},
		"HTML that is not UTF-8":        {"html", "UTF-8", func(m *email.Message) { m.HTML = "\xff" }},
		"a subject that is not UTF-8":   {"subject", "UTF-8", func(m *email.Message) { m.Subject = "\xff" }},
		"a tab in a subject":            {"", "", func(m *email.Message) { m.Subject = "a\tb" }},
		"a file without a name":         {"attachments[0].name", "required", func(m *email.Message) { m.Attachments = []email.Attachment{{}} }},
		"a file with a path":            {"attachments[0].name", "path", func(m *email.Message) { m.Attachments = []email.Attachment{{Name: "../a"}} }},
		"a file with a Windows path":    {"attachments[0].name", "path", func(m *email.Message) { m.Attachments = []email.Attachment{{Name: `c:\a`}} }},
		"a type without a slash":        {"attachments[0].content_type", "media type", func(m *email.Message) { m.Attachments = []email.Attachment{{Name: "a", ContentType: "text"}} }},
		"a multipart file": {"attachments[0].content_type", "media type", func(m *email.Message) {
			m.Attachments = []email.Attachment{{Name: "a", ContentType: "multipart/mixed; boundary=x"}}
		}},
		"a type with a parameter": {"", "", func(m *email.Message) {
			m.Attachments = []email.Attachment{{Name: "a", ContentType: "text/plain; charset=utf-8"}}
		}},
		"a content id in brackets":        {"attachments[0].content_id", "angle brackets", func(m *email.Message) { m.Attachments = []email.Attachment{{Name: "a", ContentID: "<a>"}} }},
		"a content id that no HTML shows": {"", "", func(m *email.Message) { m.Attachments = []email.Attachment{{Name: "a", ContentID: "a"}} }},
		"an empty file":                   {"", "", func(m *email.Message) { m.Attachments = []email.Attachment{{Name: "a"}} }},
		"a header name with a space":      {"headers", "3.6.8", func(m *email.Message) { m.Headers = map[string]string{"X A": "v"} }},
		"a header name with a colon":      {"headers", "3.6.8", func(m *email.Message) { m.Headers = map[string]string{"X:A": "v"} }},
		"a header name with an umlaut":    {"headers", "3.6.8", func(m *email.Message) { m.Headers = map[string]string{"Ü": "v"} }},
		"a header without a name":         {"headers", "empty", func(m *email.Message) { m.Headers = map[string]string{"": "v"} }},
		"a header in two cases":           {"headers[x-a]", "twice", func(m *email.Message) { m.Headers = map[string]string{"X-A": "v", "x-a": "v"} }},
		"a header without a value":        {"", "", func(m *email.Message) { m.Headers = map[string]string{"X-A": ""} }},
		"a tag twice":                     {"tags[1]", "twice", func(m *email.Message) { m.Tags = []string{"a", "a"} }},
		"an empty tag":                    {"tags[0]", "empty", func(m *email.Message) { m.Tags = []string{""} }},
		"our id's key":                    {"metadata[message_id]", "set id", func(m *email.Message) { m.Metadata = map[string]string{"message_id": "v"} }},
		"a key with a dot":                {"metadata", "128 of", func(m *email.Message) { m.Metadata = map[string]string{"a.b": "v"} }},
		"an empty key":                    {"metadata", "128 of", func(m *email.Message) { m.Metadata = map[string]string{"": "v"} }},
		"http to unsubscribe":             {"unsubscribe.url", "https", func(m *email.Message) { m.Unsubscribe.URL = "http://example.com/u" }},
		"a relative URL":                  {"unsubscribe.url", "absolute", func(m *email.Message) { m.Unsubscribe.URL = "/u" }},
		"a URL that ends its brackets":    {"unsubscribe.url", "percent-encoded", func(m *email.Message) { m.Unsubscribe.URL = "https://example.com/>,<mailto:x" }},
		"a URL with an umlaut":            {"unsubscribe.url", "percent-encoded", func(m *email.Message) { m.Unsubscribe.URL = "https://example.com/ü" }},
		"a mailto that ends its brackets": {"unsubscribe.mailto", "plain", func(m *email.Message) { m.Unsubscribe.Mailto = "a>,<b@example.com" }},
		"a mailto with a subject":         {"unsubscribe.mailto", "plain", func(m *email.Message) { m.Unsubscribe.Mailto = "leave@example.com?subject=x" }},
		"one click without a URL":         {"unsubscribe.url", "one-click", func(m *email.Message) { m.Unsubscribe.OneClick, m.Unsubscribe.Mailto = true, "leave@example.com" }},
		"an id with a dot":                {"id", "64 of", func(m *email.Message) { m.ID = "a.b" }},
		"a key with a space":              {"idempotency_key", "printable", func(m *email.Message) { m.IdempotencyKey = "a b" }},
		"a locale with an underscore":     {"locale", "BCP 47", func(m *email.Message) { m.Locale = "de_AT" }},
		"a time that has passed":          {"", "", func(m *email.Message) { m.SendAt = time.Now().Add(-time.Hour) }},
	} {
		t.Run(name, func(t *testing.T) {
			m := hello()
			tt.change(m)
			if tt.field == "" {
				require.NoError(t, m.Validate())
				return
			}
			refuses(t, m, tt.field, tt.why)
		})
	}
}

func TestAHeaderThatIsSetElsewhereIsRefused(t *testing.T) {
	for _, name := range []string{
		"From", "to", "CC", "Bcc", "Reply-To", "Sender", "Subject", "Date", "Message-ID", "MIME-Version", "Return-Path", "Received", "DKIM-Signature",
		"List-Unsubscribe", "List-Unsubscribe-Post", "Content-Type", "content-transfer-encoding", "Content-Language", "Resent-To", "Resent-Bcc",
	} {
		m := hello()
		m.Headers = map[string]string{name: "x"}
		refuses(t, m, "headers["+name+"]", "is set by")
	}
	m := hello()
	m.Headers = map[string]string{"X-Priority": "1", "List-Id": "<a.example.com>", "Precedence": "bulk", "In-Reply-To": "<a@example.com>", "References": "<a@example.com>"}
	assert.NoError(t, m.Validate())
}

func TestAnExpiredMailIsRejectedAndNotInvalid(t *testing.T) {
	m := hello()
	m.Expires = time.Now().Add(time.Hour)
	require.NoError(t, m.Validate())
	m.Expires = time.Now()
	err := m.Validate()
	require.ErrorIs(t, err, email.ErrExpired)
	require.ErrorIs(t, err, fault.Rejected)
	m.Subject = ""
	require.NotErrorIs(t, m.Validate(), email.ErrExpired, "what is wrong is said first")
	var none *email.Message
	require.ErrorIs(t, none.Validate(), fault.Invalid)
}

func TestAllThatIsWrongIsSaidUpToTwenty(t *testing.T) {
	m := hello()
	m.From.Address, m.Subject, m.Text = "", "", ""
	assert.Equal(t, map[string]string{"from.address": "is required", "subject": "is required", "text": "text or html is required"}, problems(m.Validate()))
	m.To = make([]email.Address, 1000)
	assert.Len(t, problems(m.Validate()), 20)
}

// The work grows with the message and no faster, and ends early where it is far
// too large. Allocations stand for it: time would depend on the machine.
func TestTheWorkIsLinear(t *testing.T) {
	work := func(n int) float64 {
		m := hello()
		m.To = people("to", n)
		return testing.AllocsPerRun(3, func() { _ = m.Validate() })
	}
	assert.Less(t, work(1000), 15*work(100))
	assert.Less(t, work(200_000), 50.0, "none of them is looked at")
}

// Whatever stands in a message that Validate lets through, no header field of
// it can hold a line break, decoded or not.
func FuzzValidateLetsNoLineBreakIntoAHeader(f *testing.F) {
	f.Add("a@example.com", "Ada", "Subject", "X-A", "v", "https://example.com/")
	f.Add("a@example.com\r\n", "A\nB", "S\x00", "X\r\nBcc", "v\nBcc: x", "https://x/\r\nBcc: y")
	f.Add("a@example.com", "=?utf-8?q?=0D=0A?=", "=?utf-8?b?DQo=?=", "X", "=?iso-8859-1?q?=0A?=", "")
	f.Fuzz(func(t *testing.T, addr, name, subject, header, value, url string) {
		m := &email.Message{
			From: email.Address{Name: name, Address: addr}, To: []email.Address{{Address: "b@example.com"}}, Subject: subject, Text: "t",
			Headers: map[string]string{header: value}, Unsubscribe: email.Unsubscribe{URL: url},
		}
		if m.Validate() != nil {
			return
		}
		all := []string{addr, name, subject}
		for k, v := range m.HeaderFields() {
			all = append(all, k, v)
		}
		for _, s := range all {
			decoded, err := new(mime.WordDecoder).DecodeHeader(s)
			if strings.ContainsAny(s, "\r\n\x00") || err == nil && strings.ContainsAny(decoded, "\r\n\x00") {
				t.Errorf("a line break got through: %q", s)
			}
		}
	})
}

func TestAFieldErrorIsFoundInTheError(t *testing.T) {
	m := hello()
	m.Subject = ""
	wrong, ok := errors.AsType[*email.FieldError](m.Validate())
	require.True(t, ok)
	assert.Equal(t, "email: subject: is required", wrong.Error())
}
