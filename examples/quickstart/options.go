package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"

	"github.com/smilefactory/integrations/email/smtp"
)

// options are what the command was asked for.
type options struct {
	sendgrid  bool // with the key in SENDGRID_API_KEY
	smtp      string
	smtpUser  string
	smtpTLS   string
	from, to  string
	env       func(string) string
	sendgrids string // base URL for tests; empty is SendGrid's own
}

func (o options) real() bool { return o.sendgrid || o.smtp != "" }

// usageError is a mistake in the command line.
type usageError struct{ error }

func wrong(format string, args ...any) error {
	return usageError{fmt.Errorf(format+"; -help shows the flags", args...)}
}

var errHelp = flag.ErrHelp

// modes are the values of -smtp-tls.
var modes = map[string]smtp.TLSMode{"starttls": smtp.STARTTLS, "implicit": smtp.ImplicitTLS, "none": smtp.Plaintext}

func flags(o *options) *flag.FlagSet {
	f := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	f.SetOutput(io.Discard) // run prints
	f.BoolVar(&o.sendgrid, "sendgrid-key-from-env", false, "send one real mail through SendGrid, with the key in SENDGRID_API_KEY")
	f.StringVar(&o.smtp, "smtp", "", "send one real mail through the SMTP server at `host:port`;\nwith both flags it is SendGrid's backup")
	f.StringVar(&o.smtpUser, "smtp-user", "", "log in as this `user`, with the password in SMTP_PASSWORD")
	f.StringVar(&o.smtpTLS, "smtp-tls", "starttls", "`mode` of encryption: starttls (port 587), implicit (port 465),\nor none, for a loopback host only")
	f.StringVar(&o.from, "from", "", "sender's `address` of the real mail")
	f.StringVar(&o.to, "to", "", "recipient's `address` of the real mail")
	return f
}

func usage(out io.Writer) {
	fmt.Fprintln(out, "Without flags: the show, on simulators. With them: one real mail.")
	f := flags(&options{})
	f.SetOutput(out)
	f.PrintDefaults()
}

// parse reads the command line and refuses what doesn't fit together.
func parse(args []string, env func(string) string) (options, error) {
	o := options{env: env}
	f := flags(&o)
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return o, errHelp
		}
		return o, wrong("%w", err)
	}
	if f.NArg() > 0 {
		return o, wrong("%q is no flag", f.Arg(0))
	}
	given := map[string]bool{}
	f.Visit(func(f *flag.Flag) { given[f.Name] = true })
	return o, o.check(given)
}

func (o options) check(given map[string]bool) error {
	if !o.real() {
		for _, name := range []string{"from", "to", "smtp-user", "smtp-tls"} {
			if given[name] {
				return wrong("-%s is for a real mail: it needs -smtp or -sendgrid-key-from-env", name)
			}
		}
		return nil
	}
	switch {
	case o.from == "" || o.to == "":
		return wrong("a real mail needs -from and -to")
	case o.sendgrid && o.env("SENDGRID_API_KEY") == "":
		return wrong("-sendgrid-key-from-env: SENDGRID_API_KEY is not set")
	}
	if o.smtp == "" {
		if given["smtp-user"] || given["smtp-tls"] {
			return wrong("-smtp-user and -smtp-tls are for -smtp")
		}
		return nil
	}
	return o.checkSMTP()
}

func (o options) checkSMTP() error {
	host, port, err := net.SplitHostPort(o.smtp)
	if err != nil || host == "" || port == "" {
		return wrong("-smtp %q is not host:port", o.smtp)
	}
	switch _, known := modes[o.smtpTLS]; {
	case !known:
		return wrong("-smtp-tls %q is not starttls, implicit or none", o.smtpTLS)
	case o.smtpUser != "" && o.env("SMTP_PASSWORD") == "":
		return wrong("-smtp-user: SMTP_PASSWORD is not set")
	}
	return nil
}
