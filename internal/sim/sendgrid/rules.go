package sendgrid

import (
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"github.com/smilefactory/integrations/internal/sim"
)

const (
	maxPersonalizations = 1000           // Mail Send reference, personalizations.
	maxRecipients       = 1000           // Mail Send limitations: to, cc and bcc of all personalizations.
	maxCategories       = 10             // Mail Send reference, categories.
	maxCategory         = 255            // Mail Send reference, categories.
	maxCustomArgs       = 10_000         // Mail Send limitations: "must be less than".
	maxAhead            = 72 * time.Hour // Mail Send reference, send_at.
	wantEmail           = "Does not contain a valid address."
)

// report collects all that is wrong, as SendGrid does, and not only the first.
type report []problem

func (r *report) addf(field, format string, args ...any) {
	help := helpPage + field
	*r = append(*r, problem{Message: fmt.Sprintf(format, args...), Field: &field, Help: &help})
}

func (r *report) require(ok bool, field, format string, args ...any) {
	if !ok {
		r.addf(field, format, args...)
	}
}

// check is nil where SendGrid would take the mail.
func (r request) check(now time.Time) []problem {
	var found report
	r.checkSender(&found)
	r.checkPersonalizations(&found, now)
	r.checkSubject(&found)
	r.checkContent(&found)
	r.checkAttachments(&found)
	r.checkCategories(&found)
	checkHeaders(&found, "headers", r.Headers)
	checkArgs(&found, "custom_args", r.CustomArgs)
	checkSendAt(&found, "send_at", r.SendAt, now)
	return found
}

func (r request) checkSender(found *report) {
	if r.From == nil { // Mail Send reference: from is required.
		found.addf("from.email", "The from object must be provided for every email send. It is an object that requires the email parameter.")
	} else {
		checkFrom(found, "from", *r.From)
	}
	if r.ReplyTo != nil {
		checkPerson(found, "reply_to", *r.ReplyTo)
	}
	for i, p := range r.ReplyToList {
		checkPerson(found, fmt.Sprintf("reply_to_list.%d", i), p)
	}
	// Mail Send reference, reply_to_list: either of the two, not both.
	found.require(r.ReplyTo == nil || len(r.ReplyToList) == 0, "reply_to_list", "Only one of reply_to and reply_to_list may be used.")
	found.require(len(r.ReplyToList) <= maxRecipients, "reply_to_list", "There is a limit of 1000 reply-to addresses.")
}

// checkFrom: no Unicode in the from field (Mail Send limitations). Its address is held to it; its name isn't, because
// SendGrid's own libraries send names in UTF-8.
func checkFrom(found *report, field string, p person) {
	found.require(sim.IsASCII(p.Email), field+".email", "Unicode encoding is not supported for the from field.")
	checkPerson(found, field, p)
}

// checkPerson: a valid address (Mail Send errors), which is shorter than the 320 characters of "exceeds the maximum total
// length"; a line break in a name could only be meant to forge a header.
func checkPerson(found *report, field string, p person) {
	found.require(sim.ValidAddress(p.Email), field+".email", wantEmail)
	found.require(!strings.ContainsAny(p.Name, "\r\n\x00"), field+".name", "The name cannot contain CRLF characters.")
}

func (r request) checkPersonalizations(found *report, now time.Time) {
	n := len(r.Personalizations)
	found.require(n > 0, "personalizations", "The personalizations field is required and must have at least one personalization.")
	found.require(n <= maxPersonalizations, "personalizations",
		"The personalization block is limited to 1000 personalizations per API request. You have provided %d personalizations.", n)
	recipients := 0
	for i, p := range r.Personalizations {
		field := fmt.Sprintf("personalizations.%d", i)
		recipients += len(p.To) + len(p.Cc) + len(p.Bcc)
		checkRecipients(found, field, p)
		p.checkRest(found, field, r.CustomArgs, now)
	}
	found.require(recipients <= maxRecipients, "personalizations", "There is a limit of 1000 total recipients (to + cc + bcc) per request.")
}

func (p personalization) checkRest(found *report, field string, whole map[string]any, now time.Time) {
	if p.From != nil {
		checkFrom(found, field+".from", *p.From)
	}
	found.require(p.Subject == nil || *p.Subject != "", field+".subject", "The subject of your email must be a string at least one character in length.")
	checkHeaders(found, field+".headers", p.Headers)
	checkArgs(found, field+".custom_args", p.CustomArgs)
	checkSendAt(found, field+".send_at", p.SendAt, now)
	// Mail Send errors, personalizations.custom_args: measured after merging; the limitations page says "less than".
	found.require(size(merge(whole, p.CustomArgs)) < maxCustomArgs, field+".custom_args",
		"The combined size of both global and personalization custom arguments may not exceed 10,000 bytes per personalization.")
}

// checkRecipients: to is required (Mail Send reference), an address comes once among to, cc and bcc (Mail Send errors;
// compared without regard to case), and names hold neither semicolon nor comma (Mail Send limitations).
func checkRecipients(found *report, field string, p personalization) {
	found.require(len(p.To) > 0, field+".to", "The to array is required for all personalization objects, and must have at least one email object with a valid email address.")
	seen := map[string]bool{}
	for kind, people := range map[string][]person{"to": p.To, "cc": p.Cc, "bcc": p.Bcc} {
		for i, recipient := range people {
			at := fmt.Sprintf("%s.%s.%d", field, kind, i)
			checkPerson(found, at, recipient)
			found.require(!strings.ContainsAny(recipient.Name, ";,"), at+".name", "The name cannot contain the characters ; or ,.")
			address := strings.ToLower(recipient.Email)
			found.require(!seen[address], field, "Each email address in the personalization block should be unique between to, cc, and bcc. We found the first duplicate instance of [%s] in the %s.%s field.", recipient.Email, field, kind)
			seen[address] = true
		}
	}
}

// checkSubject: a subject of the whole, or one in each personalization, or a template (Mail Send errors, subject).
func (r request) checkSubject(found *report) {
	if r.TemplateID != "" {
		return
	}
	if r.Subject != nil {
		found.require(*r.Subject != "", "subject", "The subject of your email must be a string at least one character in length.")
		return
	}
	for _, p := range r.Personalizations {
		if p.Subject == nil {
			found.addf("subject", "The subject is required. You can get around this requirement if you use a template with a subject defined or if every personalization has a subject defined.")
			return
		}
	}
}

// contentOrder ranks the types: text/plain first, then text/html, then any other (Mail Send errors, content.value).
var contentOrder = map[string]int{"text/plain": 1, "text/html": 2}

func (r request) checkContent(found *report) {
	found.require(len(r.Content) > 0 || r.TemplateID != "", "content",
		"Unless a valid template_id is provided, the content parameter is required. There must be at least one defined content block.")
	last := 0
	for i, c := range r.Content {
		field := fmt.Sprintf("content.%d", i)
		found.require(c.Type != "", field+".type", "Your content type must be a string with length of at least one character.")
		found.require(!strings.ContainsAny(c.Type, ";,\r\n"), field+".type", "Cannot contain ';', or CRLF characters.")
		found.require(c.Value != "", field+".value", "The content value must be a string at least one character in length.")
		rank, known := contentOrder[c.Type]
		if !known {
			rank = len(contentOrder) + 1
		}
		found.require(rank >= last, "content", "Following RFC 1341, section 7.2, if either text/html or text/plain are to be sent in your email: text/plain needs to be first, followed by text/html, followed by any other content.")
		last = rank
	}
}

// checkAttachments follows the attachment section of Mail Send errors. Its details refuse ';' and ',' in file names and
// content ids too, its messages line breaks alone; the messages are followed.
func (r request) checkAttachments(found *report) {
	for i, a := range r.Attachments {
		field := fmt.Sprintf("attachments.%d", i)
		_, err := base64.StdEncoding.DecodeString(a.Content)
		found.require(a.Content != "", field+".content", "The attachment content must be a string at least one character in length.")
		found.require(err == nil, field+".content", "The attachment content must be base64 encoded.")
		found.require(a.Filename != "", field+".filename", "filename is required.")
		found.require(!strings.ContainsAny(a.Filename, "\r\n"), field+".filename", "The filename of your attachment cannot contain CRLF characters.")
		found.require(!strings.ContainsAny(a.Type, ";\r\n"), field+".type", "The type cannot contain ';', or CRLF characters.")
		found.require(!strings.ContainsAny(a.ContentID, "\r\n"), field+".content_id", "The content ID of your attachment cannot contain CRLF characters.")
		switch a.Disposition {
		case "", "attachment", "inline":
		default:
			found.addf(field+".disposition", `The disposition of your attachment can be either "inline" or "attachment". You provided %q.`, a.Disposition)
		}
	}
}

// checkCategories follows the categories section of Mail Send errors.
func (r request) checkCategories(found *report) {
	found.require(len(r.Categories) <= maxCategories, "categories", "There is a limit of 10 categories for each email that is sent. You provided %d categories.", len(r.Categories))
	seen := map[string]bool{}
	for _, c := range r.Categories {
		found.require(len(c) <= maxCategory, "categories", "Each category must not be longer than 255 characters. %s exceeds this limit", c)
		found.require(sim.IsASCII(c), "categories", "Categories can not contain non-ASCII characters.")
		found.require(!seen[c], "categories", "The categories must be a unique list, and you have included %s more than once.", c)
		seen[c] = true
	}
}

// reserved may not be set, in whatever case (Mail Send reference, headers).
var reserved = map[string]bool{
	"x-sg-id": true, "x-sg-eid": true, "received": true, "dkim-signature": true, "content-type": true,
	"content-transfer-encoding": true, "to": true, "from": true, "subject": true, "reply-to": true, "cc": true, "bcc": true,
}

// checkHeaders follows the headers section of Mail Send errors.
func checkHeaders(found *report, field string, headers map[string]any) {
	seen := map[string]bool{}
	for name, v := range headers {
		value, ok := v.(string)
		lower := strings.ToLower(name)
		found.require(ok, field, "The header values must be strings.")
		found.require(name != "" && sim.IsASCII(name) && !strings.ContainsAny(name, " :"), field, "Header keys cannot contain non-ASCII characters and empty spaces.")
		found.require(!strings.ContainsAny(value, "\r\n\x00"), field, "The header values cannot contain CRLF characters.")
		found.require(!reserved[lower], field, "Header can not be one of the reserved keys.")
		found.require(!seen[lower], field, "The headers cannot contain duplicate keys.")
		seen[lower] = true
	}
}

// checkArgs: values are strings, and an object that is given isn't empty (Mail Send errors, custom_args).
func checkArgs(found *report, field string, args map[string]any) {
	found.require(args == nil || len(args) > 0, field, "custom_args cannot be empty.")
	for _, v := range args {
		if _, ok := v.(string); !ok {
			found.addf(field, "All values of custom arguments object must be strings")
			return
		}
	}
}

// checkSendAt: a time that has passed is sent at once (Mail Send errors, send_at).
func checkSendAt(found *report, field string, at int64, now time.Time) {
	found.require(at <= now.Add(maxAhead).Unix(), field, "Scheduling more than 72 hours in advance is forbidden.")
}
