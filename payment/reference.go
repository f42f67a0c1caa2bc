package payment

import (
	"strconv"
	"strings"
)

// Reference is what travels with a payment to its provider, and comes back with
// webhooks and look-ups: opaque ids, no personal data. Written out it has at most
// 123 characters, since PayPal's custom_id takes 127.
type Reference struct {
	Tenant, Order, User string
	Attempt             int
}

// The longest ids; each is of [A-Za-z0-9_-].
const (
	maxOrderID  = 44
	maxTenant   = 36
	maxUser     = 36
	maxAttempts = 999
)

// Reference is the attempt's.
func (a *Attempt) Reference() Reference {
	return Reference{Tenant: a.Tenant, Order: a.Order.ID, User: a.Order.User, Attempt: a.Number}
}

// String is the reference in one piece, such as "order-4711.2@tenant:user-42".
func (r Reference) String() string {
	s := r.Order + "." + strconv.Itoa(r.Attempt)
	if r.Tenant != "" {
		s += "@" + r.Tenant
	}
	if r.User != "" {
		s += ":" + r.User
	}
	return s
}

// ParseReference reads what [Reference.String] wrote. What is none of ours is the
// zero value.
func ParseReference(s string) Reference {
	rest, user, hasUser := strings.Cut(s, ":")
	rest, tenant, hasTenant := strings.Cut(rest, "@")
	order, number, _ := strings.Cut(rest, ".")
	attempt, err := strconv.Atoi(number)
	r := Reference{Tenant: tenant, Order: order, User: user, Attempt: attempt}
	if err != nil || hasUser && user == "" || hasTenant && tenant == "" || !r.valid() || r.String() != s {
		return Reference{}
	}
	return r
}

func (r Reference) valid() bool {
	return r.Order != "" && isID(r.Order, maxOrderID) && isID(r.Tenant, maxTenant) && isID(r.User, maxUser) &&
		r.Attempt >= 1 && r.Attempt <= maxAttempts
}

// isID reports whether s is at most n of [A-Za-z0-9_-].
func isID(s string, n int) bool {
	return len(s) <= n && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
	})
}
