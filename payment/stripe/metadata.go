package stripe

import (
	"strconv"

	"github.com/smilefactory/integrations/payment"
)

// The names under which a reference travels.
const (
	orderKey   = "order_id"
	userKey    = "user_id"
	tenantKey  = "tenant"
	attemptKey = "attempt"
	refundKey  = "refund_id"
)

func metadata(r payment.Reference) map[string]string {
	m := map[string]string{orderKey: r.Order, attemptKey: strconv.Itoa(r.Attempt)}
	if r.User != "" {
		m[userKey] = r.User
	}
	if r.Tenant != "" {
		m[tenantKey] = r.Tenant
	}
	return m
}

// reference is the one of metadata, zero where they aren't ours.
func reference(m map[string]string) payment.Reference {
	attempt, _ := strconv.Atoi(m[attemptKey])
	r := payment.Reference{Tenant: m[tenantKey], Order: m[orderKey], User: m[userKey], Attempt: attempt}
	return payment.ParseReference(r.String())
}
