package smtp

import (
	"context"
	"errors"
	"fmt"
	"net/textproto"
	"regexp"
	"strconv"
	"strings"

	client "github.com/wneessen/go-mail/smtp"

	"github.com/smilefactory/integrations/email/internal/redact"
	"github.com/smilefactory/integrations/fault"
)

// moment is where in a conversation something failed.
type moment string

const (
	atConnect moment = "connect"
	atTLS     moment = "TLS"
	atHello   moment = "EHLO"
	atAuth    moment = "AUTH"
	atMail    moment = "MAIL"
	atRcpt    moment = "RCPT"
	atData    moment = "DATA"
	atEnd     moment = "end of message" // everything from the first byte of the message on
)

// refusals is what a 5xx reply means, by moment and code; 0 is any other. A
// reply is proof: the server says that it did not take the mail. Codes are those
// of RFC 5321, 4.2.3 and 4.3.2, and of RFC 4954, 6.
var refusals = map[moment]map[int]fault.Kind{
	// Before a mail is named, what is refused is us.
	atConnect: {0: fault.Denied}, // 554 no SMTP service here (3.1)
	atHello:   {0: fault.Denied},
	atTLS:     {0: fault.Denied},
	atAuth:    {0: fault.Denied}, // 534, 535, 538
	atMail: {
		0:   fault.Denied,    // 530 log in first; 550, 553, 554: this account may not send from this address
		501: fault.Invalid,   // the address's form
		552: fault.Exhausted, // storage allocation
		555: fault.Unsupported,
	},
	atRcpt: { // Rejected: this recipient alone is refused
		0:   fault.Rejected, // 550, 551, 552, 553, 554
		530: fault.Denied, 535: fault.Denied,
		555: fault.Unsupported,
	},
	atData: {0: fault.Rejected, 530: fault.Denied}, // 554 no valid recipients
	atEnd:  {0: fault.Rejected, 552: fault.Exhausted},
}

// Error is a server's reply that wasn't the one hoped for.
type Error struct {
	// At is the command, or "connect", "TLS" or "end of message".
	At string
	// Status is the reply's code (RFC 5321, 4.2), such as 550.
	Status int
	// Enhanced is the code of RFC 3463, such as "5.1.1", where there was one.
	Enhanced string
	// Message is the server's text without anything of the mail; empty for AUTH.
	Message string
}

// Error is the moment, the codes and the server's text.
func (e *Error) Error() string {
	return strings.TrimRight("smtp: "+e.At+": "+e.code()+" "+e.Message, " ")
}

func (e *Error) code() string { return strings.TrimSpace(strconv.Itoa(e.Status) + " " + e.Enhanced) }

func (e *Error) fault() *fault.Error {
	f := fault.New(e.kind(), e)
	f.Code = e.code()
	return f
}

func (e *Error) kind() fault.Kind {
	at := moment(e.At)
	switch {
	case e.Status >= 400 && e.Status < 500:
		return e.passing()
	case e.Status >= 500 && e.Status < 600:
		if e.Enhanced == "5.3.4" || e.Enhanced == "5.6.7" { // RFC 3463, 3.4: too big for this system; RFC 6531: no SMTPUTF8
			return fault.Unsupported
		}
		if k, ok := refusals[at][e.Status]; ok {
			return k
		}
		return refusals[at][0]
	case at == atEnd: // a reply that makes no sense
		return fault.Uncertain
	}
	return fault.Unavailable
}

// passing is what a 4xx reply means: nothing was done, and it may be tried again
// (RFC 5321, 4.2.1).
func (e *Error) passing() fault.Kind {
	switch at := moment(e.At); {
	case at == atAuth && e.Status == 432:
		return fault.Denied // RFC 4954, 6: the password must be changed first
	case at == atAuth || at == atTLS:
		return fault.Unavailable // 454 4.7.0 is a server's own trouble there (RFC 4954, 6; RFC 3207, 4)
	case e.Enhanced == "4.5.3":
		return fault.Unsupported // RFC 3463, 3.6: too many recipients, at any time
	case strings.HasPrefix(e.Enhanced, "4.7."):
		return fault.RateLimited // RFC 3463, 3.8: policy; greylisting and limits of rate
	}
	return fault.Unavailable // 421, 450, 451, 452, 455
}

const maxMessage = 300 // characters of a server's text

// failure is the fault of a reply, or of a connection that broke.
func failure(ctx context.Context, at moment, err error) *fault.Error {
	if said, ok := errors.AsType[*textproto.Error](err); ok {
		code, text := enhanced(said.Msg)
		e := &Error{At: string(at), Status: said.Code, Enhanced: code, Message: redact.Text(text, maxMessage)}
		if at == atAuth {
			e.Message = "" // it could repeat what it was told
		}
		return e.fault()
	}
	kind := fault.Unavailable
	if at == atEnd {
		kind = fault.Uncertain
	}
	if ctx.Err() != nil {
		err = ctx.Err() // which has closed the connection
	} else if _, ok := errors.AsType[textproto.ProtocolError](err); ok {
		err = errors.New("the server's reply makes no sense") // unquoted: it may hold anything
	} else if errors.Is(err, client.ErrUnexpectedServerResponse) {
		err = client.ErrUnexpectedServerResponse // without what it said
	}
	return fault.New(kind, fmt.Errorf("smtp: %s: %w", at, err))
}

// codes is an enhanced status code (RFC 2034, 4), which may stand before every line.
var codes = regexp.MustCompile(`(?m)^([245]\.\d{1,3}\.\d{1,3})(?:[ \t]+|$)`)

// enhanced parts a reply's enhanced code from its text.
func enhanced(reply string) (code, text string) {
	if found := codes.FindStringSubmatch(reply); found != nil {
		code = found[1]
	}
	return code, codes.ReplaceAllString(reply, "")
}
