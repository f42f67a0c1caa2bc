package paypal

import (
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
)

// patchPath is the one kind of path that is simulated.
var patchPath = regexp.MustCompile(`^/purchase_units/@reference_id=='([^']*)'/(amount|custom_id|invoice_id|description|soft_descriptor)$`)

// patchOrder is orders.patch of the Orders v2 specification, for the fields that patchPath names.
func (s *Sim) patchOrder(c *call) (answer, *problem) {
	o, p := s.order(c)
	if p != nil {
		return answer{}, p
	}
	if o.status == completed || o.status == voided {
		return answer{}, issue("ORDER_ALREADY_COMPLETED")
	}
	var changed []unit
	for _, u := range o.units {
		changed = append(changed, *u)
	}
	patches, _ := c.body.([]any)
	for i, raw := range patches {
		patch, _ := raw.(object)
		if p := o.patch(changed, patch, "/"+strconv.Itoa(i)); p != nil {
			return answer{}, p
		}
	}
	for i := range changed { // All or nothing.
		*o.units[i] = changed[i]
	}
	o.updated = c.now
	return answer{status: http.StatusNoContent}, nil
}

func (o *order) patch(units []unit, patch object, field string) *problem {
	parts := patchPath.FindStringSubmatch(text(patch, "path"))
	if parts == nil {
		return issueAt("NOT_PATCHABLE", field+"/path")
	}
	i := slices.IndexFunc(units, func(u unit) bool { return u.reference == parts[1] })
	if i < 0 {
		return issueAt("REFERENCE_ID_NOT_FOUND", field+"/path")
	}
	name, op := parts[2], text(patch, "op")
	raw := maps.Clone(units[i].raw)
	if p := applied(raw, name, op, patch["value"], field); p != nil {
		return p
	}
	var found report
	found.check(field+"/value", raw[name], unitShape.fields[name])
	if len(found) > 0 && raw[name] != nil {
		return refuse(http.StatusBadRequest, found...)
	}
	u, p := readUnit(raw, field, o.account)
	switch {
	case p != nil:
		return p
	case name == "amount" && o.status == approved && u.amount != units[i].amount:
		return issueAt("AMOUNT_CHANGE_NOT_ALLOWED", field+"/value")
	case u.amount.currency != units[i].amount.currency && len(units) > 1:
		return issueAt("MULTI_CURRENCY_ORDER", field+"/value")
	}
	units[i] = *u
	return nil
}

// applied does one operation (Orders v2 specification, INVALID_PATCH_OPERATION; RFC 6902).
func applied(raw object, name, op string, value any, field string) *problem {
	_, there := raw[name]
	switch {
	case op == "remove" && there && name != "amount":
		delete(raw, name)
		return nil
	case op == "add" && !there, op == "replace" && there:
		if value == nil {
			return issueAt("PATCH_VALUE_REQUIRED", field+"/value")
		}
		raw[name] = value
		return nil
	}
	return refuse(http.StatusBadRequest, detail{Field: field + "/op", Location: "body", Issue: "INVALID_PATCH_OPERATION", Description: descriptions["INVALID_PATCH_OPERATION"]})
}

// confirmOrder is orders.confirm of the Orders v2 specification. It moves no money: a saved payment method approves the
// order (unverified), any other waits for the buyer.
func (s *Sim) confirmOrder(c *call) (answer, *problem) {
	o, p := s.order(c)
	switch {
	case p != nil:
		return answer{}, p
	case o.status == completed || o.status == voided:
		return answer{}, issue("ORDER_CANNOT_BE_CONFIRMED")
	case o.status == approved:
		return answer{}, issue("PAYMENT_ALREADY_APPROVED")
	}
	before := *o
	if p := s.choose(c, o, record(c.record(), "payment_source")); p != nil {
		*o = before
		return answer{}, p
	}
	o.status, o.payerAction, o.updated = payerActionRequired, true, c.now
	if o.token != nil {
		o.status, o.funding = approved, o.token.outcome
	}
	return answer{status: http.StatusOK, body: o.answer(c)}, nil
}
