package smtp

import (
	"encoding/base64"
	"net/mail"
	"slices"
	"strings"
)

type address = mail.Address

// auth speaks PLAIN (RFC 4616) and LOGIN (draft-murchison-sasl-login), by RFC 4954, section 4.
func (c *session) auth(arg string) error {
	mechanism, initial, _ := strings.Cut(arg, " ")
	mechanism = strings.ToUpper(mechanism)
	user, password, refusal := "", "", ""
	switch {
	case c.offersTLS():
		refusal = "538 5.7.11 Encryption required" // RFC 4954, section 6
	case !c.greets:
		refusal = "503 5.5.1 EHLO first" // RFC 5321, section 4.1.4
	case c.known || c.sender != nil:
		refusal = "503 5.5.1 not now" // RFC 4954, section 4
	case c.cfg.Username == "":
		refusal = "502 5.5.1 not offered" // RFC 5321, section 4.2.4
	case !slices.Contains(c.cfg.Mechanisms, mechanism):
		refusal = "504 5.5.4 unrecognized mechanism" // RFC 4954, section 4
	default:
		var err error
		if user, password, refusal, err = c.credentials(mechanism, initial); err != nil {
			return err
		}
	}
	return c.step("AUTH", "", func() string {
		switch {
		case refusal != "":
			return refusal
		case user != c.cfg.Username || password != *c.password.Load():
			return "535 5.7.8 Authentication credentials invalid" // RFC 4954, section 6
		}
		c.known = true
		return "235 2.7.0 Authentication successful"
	})
}

func (c *session) credentials(mechanism, initial string) (user, password, refusal string, err error) {
	var answers []string
	prompts := []string{""}
	if mechanism == "LOGIN" {
		prompts = []string{"Username:", "Password:"}
	}
	for _, prompt := range prompts {
		text := initial
		if initial = ""; text == "" {
			if err := c.reply("334 " + base64.StdEncoding.EncodeToString([]byte(prompt))); err != nil {
				return "", "", "", err
			}
			if text, err = c.line(maxCommand); err != nil {
				return "", "", "", err
			}
		}
		raw, decodeErr := base64.StdEncoding.DecodeString(text)
		if text == "*" || decodeErr != nil { // RFC 4954, section 4
			return "", "", "501 5.5.2 cancelled", nil //nolint:nilerr // the reply is the answer to it
		}
		answers = append(answers, string(raw))
	}
	if mechanism == "PLAIN" {
		answers = strings.Split(answers[0], "\x00")
		if len(answers) != 3 {
			return "", "", "501 5.5.2 malformed", nil // RFC 4616, section 2
		}
		answers = answers[1:]
	}
	return answers[0], answers[1], "", nil
}
