package simtest

import (
	"github.com/smilefactory/integrations/email"
	"github.com/smilefactory/integrations/internal/sim"
)

// Messages are the mails that a simulator took, as messages.
func Messages(taken []sim.Mail) []*email.Message {
	out := make([]*email.Message, len(taken))
	for i, m := range taken {
		out[i] = Message(m)
	}
	return out
}

// Message is a mail that a simulator took, as a message.
func Message(m sim.Mail) *email.Message {
	out := &email.Message{
		ID: m.ID, From: m.From, To: m.To, Cc: m.Cc, Bcc: m.Bcc, ReplyTo: m.ReplyTo, Subject: m.Subject, Text: m.Text, HTML: m.HTML,
		Headers: m.Headers, Tags: m.Tags, Metadata: m.Metadata, SendAt: m.SendAt,
	}
	for _, a := range m.Attachments {
		out.Attachments = append(out.Attachments, email.Attachment{Name: a.Name, ContentType: a.Type, ContentID: a.ContentID, Data: a.Data})
	}
	return out
}
