package email

import (
	"net/mail"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// ASCIIDomain is a with its domain in the ASCII form of RFC 5891, which every
// mail server takes. What stands before the at sign has no such form.
func ASCIIDomain(a Address) Address {
	at := strings.LastIndexByte(a.Address, '@')
	domain := a.Address[at+1:]
	if !strings.ContainsFunc(domain, func(r rune) bool { return r > '~' }) {
		return a
	}
	if ascii, err := idna.Lookup.ToASCII(domain); err == nil {
		a.Address = a.Address[:at+1] + ascii
	}
	return a
}

// addressProblem checks a bare address. mail.ParseAddress alone accepts labels
// that start with a hyphen and local parts of 65 octets, and reads comments and
// quoted local parts as something else than is written: the address must come
// out as it went in.
func addressProblem(addr string) string {
	at := strings.LastIndexByte(addr, '@')
	switch {
	case addr == "":
		return "is required"
	case len(addr) > 254:
		return "is longer than 254 octets (RFC 5321, 4.5.3.1.3)"
	case strings.ContainsFunc(addr, func(r rune) bool { return r == ' ' || r == utf8.RuneError || !strconv.IsPrint(r) }):
		return "must not contain spaces, control or invisible characters"
	case at <= 0 || at == len(addr)-1:
		return "must have the form local@domain"
	case at > 64:
		return "has a local part longer than 64 octets (RFC 5321, 4.5.3.1.1)"
	}
	parsed, err := mail.ParseAddress("<" + addr + ">")
	if err != nil || parsed.Name != "" || parsed.Address != addr {
		return "is not a valid address"
	}
	return domainProblem(addr[at+1:])
}

func domainProblem(domain string) string {
	ascii, err := idna.Lookup.ToASCII(domain)
	if err != nil {
		return "has an invalid domain"
	}
	if len(ascii) > 253 {
		return "has a domain longer than 253 octets"
	}
	for label := range strings.SplitSeq(ascii, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.ContainsFunc(label, func(r rune) bool {
				return r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
			}) {
			return "has an invalid domain"
		}
	}
	return ""
}
