package smtp

import (
	"context"
	"errors"
	"net/textproto"
	"regexp"
	"strconv"

	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/email/internal/redact"
	"github.com/smilefactory/integrations/fault"
)

// outcome is what became of a mail.
type outcome struct {
	reply   string
	id      string // of the mail, at the server
	stale   bool   // nothing: the server had closed the connection while it was idle
	refused []refused
}

// refused is a recipient that the server did not take, by its place in the envelope.
type refused struct {
	recipient int
	err       *Error
}

// deliver makes one transaction. It leaves the connection ready for the next, or
// broken.
func (c *conn) deliver(ctx context.Context, e *envelope) (outcome, error) {
	stop := c.raw.watch(ctx)
	defer func() {
		if !stop() {
			c.broken = true // the context ended and has closed it, or is about to
		}
	}()
	if err := c.fits(e); err != nil {
		return outcome{}, err
	}
	c.client.SkipSMTPUTF8(e.utf8 == "")
	if err := c.client.Mail("<" + e.from + ">"); err != nil {
		err = c.failed(ctx, atMail, err)
		return outcome{stale: c.used && c.broken}, err
	}
	var out outcome
	for i, to := range e.to {
		err := c.client.Rcpt("<" + to + ">")
		if err == nil {
			continue
		}
		f := c.failed(ctx, atRcpt, err)
		cause, ok := errors.AsType[*Error](f)
		if !ok || f.Kind != fault.Rejected {
			c.abandon()
			return outcome{}, f // the whole mail, so that no recipient is lost to a passing trouble
		}
		out.refused = append(out.refused, refused{i, cause})
	}
	if len(out.refused) == len(e.to) {
		c.abandon()
		return outcome{}, out.refused[0].err.fault()
	}
	reply, err := c.data(ctx, e.raw)
	out.reply = reply
	return out, err
}

// fits refuses what the server has said that it can't take.
func (c *conn) fits(e *envelope) error {
	if ok, _ := c.client.Extension("SMTPUTF8"); e.utf8 != "" && !ok {
		return unsupported(e.utf8, "has a non-ASCII local part, and the server doesn't offer SMTPUTF8 (RFC 6531)")
	}
	_, param := c.client.Extension("SIZE")
	if limit, err := strconv.Atoi(param); err == nil && limit > 0 && len(e.raw) > limit { // RFC 1870: 0 is no limit
		return unsupported("attachments", "the mail is larger when encoded than the server takes (RFC 1870)")
	}
	return nil
}

func unsupported(field, problem string) error {
	return fault.New(fault.Unsupported, &email.FieldError{Field: field, Problem: problem})
}

// data sends the message. From its first byte to the last reply nobody knows
// whether it was taken.
func (c *conn) data(ctx context.Context, raw []byte) (reply string, err error) {
	w, err := c.client.Data()
	if err != nil {
		f := c.failed(ctx, atData, err)
		c.abandon()
		return "", f
	}
	if _, err := w.Write(raw); err != nil {
		c.broken = true
		return "", failure(ctx, atEnd, err)
	}
	err = w.Close()
	if said, ok := errors.AsType[*textproto.Error](err); ok && said.Code/100 == 2 {
		return said.Msg, nil // taken, in other words than 250
	}
	if err != nil {
		return "", c.failed(ctx, atEnd, err)
	}
	if done, ok := w.(interface{ ServerResponse() string }); ok {
		reply = done.ServerResponse()
	}
	return reply, nil
}

// failed turns an error into a fault and notes whether the connection survives.
func (c *conn) failed(ctx context.Context, at moment, err error) *fault.Error {
	f := failure(ctx, at, err)
	said, ok := errors.AsType[*Error](f)
	if !ok || said.Status == 421 || said.Status < 400 || said.Status > 599 {
		c.broken = true // RFC 5321, 3.8: after 421 the server closes
	}
	return f
}

// abandon ends a transaction that wasn't finished. After a finished one no RSET
// is needed (RFC 5321, 4.1.1.4), so that none can fail after a success.
func (c *conn) abandon() {
	if !c.broken && c.client.Reset() != nil {
		c.broken = true
	}
}

// ids are the ways in which servers name a mail in their last reply: "queued as
// X" (Postfix, SES, Mailpit), "id=X" (Exim), "queued mail X for delivery"
// (Exchange).
var ids = regexp.MustCompile(`(?i)\b(?:queued as |queued mail |id=)<?([A-Za-z0-9][A-Za-z0-9._@-]{0,127})`)

// queueID is the server's id of the mail, or what it said instead, without
// anything private and its enhanced code.
func queueID(reply string, private []string) string {
	if found := ids.FindStringSubmatch(reply); found != nil {
		return found[1]
	}
	_, text := enhanced(reply)
	return redact.Text(text, 128, private...)
}
