package paypal

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/smilefactory/integrations/internal/sim"
)

// object is a JSON object.
type object = map[string]any

// Names of errors and their messages, by status (Orders v2 and Payments v2 specifications, schemas error_400 to
// error_500; RATE_LIMIT_REACHED: PayPal's page "API responses").
var problems = map[int][2]string{
	400: {"INVALID_REQUEST", "Request is not well-formed, syntactically incorrect, or violates schema."},
	401: {"AUTHENTICATION_FAILURE", "Authentication failed due to missing authorization header, or invalid authentication credentials."},
	403: {"NOT_AUTHORIZED", "Authorization failed due to insufficient permissions."},
	404: {"RESOURCE_NOT_FOUND", "The specified resource does not exist."},
	405: {"METHOD_NOT_SUPPORTED", "The server does not implement the requested HTTP method."},
	409: {"RESOURCE_CONFLICT", "The server has detected a conflict while processing this request."},
	415: {"UNSUPPORTED_MEDIA_TYPE", "The server does not support the request payload's media type."},
	422: {"UNPROCESSABLE_ENTITY", "The requested action could not be performed, semantically incorrect, or failed business validation."},
	429: {"RATE_LIMIT_REACHED", "Too many requests. Blocked due to rate limiting."},
	500: {"INTERNAL_SERVER_ERROR", "An internal server error occurred."},
	503: {"SERVICE_UNAVAILABLE", "Service Unavailable."},
}

// problem is a refusal in PayPal's form.
type problem struct {
	status  int
	details []detail
	links   []object
	// final keeps the refusal under the request's id, as the outcome of a charge is.
	final bool
}

// detail is one cause (Orders v2 specification, schema error_details).
type detail struct {
	Field       string `json:"field,omitempty"` // a JSON pointer into the body
	Value       string `json:"value,omitempty"`
	Location    string `json:"location,omitempty"`
	Issue       string `json:"issue"`
	Description string `json:"description,omitempty"`
}

func refuse(status int, details ...detail) *problem {
	return &problem{status: status, details: details}
}

// issue is a refusal of what the request asks for, with the description that the specification gives.
func issue(name string) *problem {
	return refuse(http.StatusUnprocessableEntity, detail{Issue: name, Description: descriptions[name]})
}

func issueAt(name, field string) *problem {
	p := issue(name)
	p.details[0].Field, p.details[0].Location = field, "body"
	return p
}

func notFound() *problem {
	return refuse(http.StatusNotFound, detail{Issue: "INVALID_RESOURCE_ID", Description: descriptions["INVALID_RESOURCE_ID"]})
}

func forbidden() *problem {
	return refuse(http.StatusForbidden, detail{Issue: "PERMISSION_DENIED", Description: descriptions["PERMISSION_DENIED"]})
}

func (p *problem) reply() sim.Reply {
	debugID := newDebugID()
	name, message := problemWords(p.status)
	body := object{"name": name, "message": message, "debug_id": debugID}
	if len(p.details) > 0 {
		body["details"] = p.details
	}
	links := p.links
	if len(p.details) > 0 {
		links = append([]object{link("https://developer.paypal.com/api/rest/reference/orders/v2/errors/#"+p.details[0].Issue, "information_link", "GET")}, links...)
	}
	if len(links) > 0 {
		body["links"] = links
	}
	return respond(p.status, body, debugID)
}

func problemWords(status int) (name, message string) {
	words, known := problems[status]
	if !known {
		return http.StatusText(status), http.StatusText(status)
	}
	return words[0], words[1]
}

// Error is a reply of status with PayPal's error body, with issue as its only detail where it isn't empty, for a
// [sim.Fault].
func Error(status int, issueName string) sim.Reply {
	p := refuse(status)
	if issueName != "" {
		p.details = []detail{{Issue: issueName, Description: descriptions[issueName]}}
	}
	return p.reply()
}

// RateLimited is the reply of 429. PayPal documents neither its limits nor a Retry-After header (page "Rate limiting
// guidelines"); a zero wait leaves the header out.
func RateLimited(wait time.Duration) sim.Reply {
	reply := Error(http.StatusTooManyRequests, "")
	if wait > 0 {
		reply.Header.Set("Retry-After", strconv.Itoa(int(wait/time.Second)))
	}
	return reply
}

// respond is an answer with the header that PayPal sends with each (page "API responses", Paypal-Debug-Id).
func respond(status int, body any, debugID string) sim.Reply {
	reply := sim.Reply{Status: status, Header: http.Header{"Paypal-Debug-Id": {debugID}}}
	if body == nil {
		return reply
	}
	reply.Header.Set("Content-Type", "application/json")
	reply.Body = string(encode(body))
	return reply
}

func encode(body any) []byte {
	data, err := json.Marshal(body)
	if err != nil {
		panic("paypal: encode: " + err.Error()) // Bodies are maps of strings and numbers.
	}
	return data
}

func newDebugID() string { return newID("0123456789abcdef", 13) }

const idAlphabet = "0123456789ABCDEFGHJKLMNPRSTUVWXY"

// newID is n random characters of an alphabet of which 256 is a multiple, else a little uneven.
func newID(alphabet string, n int) string {
	raw := make([]byte, n)
	_, _ = rand.Read(raw) // It never fails.
	for i, b := range raw {
		raw[i] = alphabet[int(b)%len(alphabet)]
	}
	return string(raw)
}

func link(href, rel, method string) object { return object{"href": href, "rel": rel, "method": method} }
