package sim

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"net/textproto"
	"strings"
)

// ParseMIME reads a whole MIME message as a mail client would: the first text and HTML that aren't attachments are its
// bodies, every other leaf is an attachment. Text is taken as UTF-8 whatever its charset says. Headers that a mail
// server sets anew, and those that are fields of [Mail], aren't in Headers.
func ParseMIME(raw []byte) (Mail, error) {
	msg, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		return Mail{}, fmt.Errorf("sim: parse message: %w", err)
	}
	m := Mail{ID: msg.Header.Get("X-Message-Id")}
	if err := m.readHeader(msg.Header); err != nil {
		return Mail{}, err
	}
	if err := m.readPart(textproto.MIMEHeader(msg.Header), msg.Body, 0); err != nil {
		return Mail{}, fmt.Errorf("sim: parse message: %w", err)
	}
	return m, nil
}

func (m *Mail) readHeader(h mail.Header) error {
	from, err := ParseAddressList(h.Get("From"))
	if err != nil {
		return fmt.Errorf("sim: parse header From: %w", err)
	}
	if len(from) != 1 {
		return fmt.Errorf("sim: parse header From: one address wanted, got %d", len(from))
	}
	m.From = from[0]
	for name, to := range map[string]*[]mail.Address{"To": &m.To, "Cc": &m.Cc, "Bcc": &m.Bcc, "Reply-To": &m.ReplyTo} {
		if *to, err = ParseAddressList(h.Get(name)); err != nil {
			return fmt.Errorf("sim: parse header %s: %w", name, err)
		}
	}
	m.Subject = decodeWords(h.Get("Subject"))
	for name, values := range h {
		if !ownHeader(name) {
			continue
		}
		if m.Headers == nil {
			m.Headers = map[string]string{}
		}
		m.Headers[name] = decodeWords(strings.Join(values, ", "))
	}
	return nil
}

func ownHeader(name string) bool {
	switch name {
	case "From", "To", "Cc", "Bcc", "Reply-To", "Subject", "Date", "Message-Id", "X-Message-Id", "Mime-Version":
		return false
	}
	return !strings.HasPrefix(name, "Content-")
}

// ParseAddressList reads a comma-separated list of addresses; an empty list is no error.
func ParseAddressList(list string) ([]mail.Address, error) {
	if strings.TrimSpace(list) == "" {
		return nil, nil
	}
	parsed, err := mail.ParseAddressList(list)
	if err != nil {
		return nil, err
	}
	out := make([]mail.Address, len(parsed))
	for i, a := range parsed {
		out[i] = *a
	}
	return out, nil
}

// maxDepth bounds the nesting of parts: a real mail has mixed, related and alternative.
const maxDepth = 10

func (m *Mail) readPart(h textproto.MIMEHeader, body io.Reader, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("parts nested more than %d deep", maxDepth)
	}
	mediaType, params, err := contentType(h)
	if err != nil {
		return err
	}
	if strings.HasPrefix(mediaType, "multipart/") {
		return m.readParts(multipart.NewReader(body, params["boundary"]), depth)
	}
	data, err := io.ReadAll(decodeTransfer(h.Get("Content-Transfer-Encoding"), body))
	if err != nil {
		return fmt.Errorf("decode %s part: %w", mediaType, err)
	}
	m.addLeaf(h, mediaType, params, data)
	return nil
}

func (m *Mail) readParts(parts *multipart.Reader, depth int) error {
	for {
		part, err := parts.NextRawPart()
		if err == io.EOF { // bare at the closing boundary, wrapped where the message was cut short
			return nil
		}
		if err != nil {
			return fmt.Errorf("read part: %w", err)
		}
		if err := m.readPart(part.Header, part, depth+1); err != nil {
			return err
		}
	}
}

func (m *Mail) addLeaf(h textproto.MIMEHeader, mediaType string, params map[string]string, data []byte) {
	disposition, dispositionParams, _ := mime.ParseMediaType(h.Get("Content-Disposition"))
	file := disposition == "attachment" || dispositionParams["filename"] != ""
	switch {
	case mediaType == "text/plain" && !file && m.Text == "":
		m.Text = string(data)
	case mediaType == "text/html" && !file && m.HTML == "":
		m.HTML = string(data)
	default:
		name := dispositionParams["filename"]
		if name == "" {
			name = params["name"]
		}
		m.Attachments = append(m.Attachments, Attachment{
			Name: decodeWords(name), Type: mediaType, ContentID: strings.Trim(h.Get("Content-Id"), "<>"), Data: data,
		})
	}
}

// contentType has the default of RFC 2045 section 5.2.
func contentType(h textproto.MIMEHeader) (string, map[string]string, error) {
	value := h.Get("Content-Type")
	if value == "" {
		return "text/plain", nil, nil
	}
	mediaType, params, err := mime.ParseMediaType(value)
	if err != nil {
		return "", nil, fmt.Errorf("content type %q: %w", value, err)
	}
	return mediaType, params, nil
}

func decodeTransfer(encoding string, body io.Reader) io.Reader {
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "base64":
		return base64.NewDecoder(base64.StdEncoding, body)
	case "quoted-printable":
		return quotedprintable.NewReader(body)
	}
	return body
}

// decodeWords reads encoded words (RFC 2047); what can't be decoded stays as it came.
func decodeWords(s string) string {
	decoded, err := new(mime.WordDecoder).DecodeHeader(s)
	if err != nil {
		return s
	}
	return decoded
}
