package stripe

import "time"

func (c *call) confirmIntent() (any, *problem) {
	pi, p := c.intent()
	if p != nil {
		return nil, p
	}
	allowed := []string{requiresPaymentMethod, requiresConfirmation, requiresAction}
	switch {
	case pi.Status == succeeded:
		p := unexpectedState(pi, "confirmed", allowed...)
		p.Message = "You cannot confirm this PaymentIntent because it has already succeeded after being previously confirmed."
		return nil, p
	case !pi.in(allowed...):
		return nil, unexpectedState(pi, "confirmed", allowed...)
	}
	if p := c.checkReturnURL(pi.AutomaticPaymentMethods, "PaymentIntent"); p != nil {
		return nil, p
	}
	draft := *pi
	if p := c.describe(&draft); p != nil {
		return nil, p
	}
	*pi = draft
	return pi, c.confirm(pi)
}

// checkReturnURL: docs.stripe.com/payments/accept-a-payment-deferred, and the message that Stripe answers with: automatic
// payment methods may redirect, so that a confirmation needs to know where to, unless redirects are ruled out.
func (c *call) checkReturnURL(auto *automatic, object string) *problem {
	if auto == nil || auto.AllowRedirects == "never" || c.p.text("return_url") != "" || c.p.truth("use_stripe_sdk") {
		return nil
	}
	return malformed("This "+object+" is configured to accept payment methods enabled in your Dashboard. Because some of these payment methods might redirect your customer off of your page, you must provide a `return_url`. If you don't want to accept redirect-based payment methods, set `automatic_payment_methods[enabled]` to `true` and `automatic_payment_methods[allow_redirects]` to `never` when creating Setup Intents and Payment Intents.", "")
}

// confirm tries to pay with the payment method that the intent has.
func (c *call) confirm(pi *paymentIntent) *problem {
	if pi.PaymentMethod == nil {
		p := refused("payment_intent_unexpected_state", "", "You cannot confirm this PaymentIntent because it's missing a payment method. You can either update the PaymentIntent with a payment method and then confirm it again, or confirm it again directly with a payment method.")
		p.PaymentIntent = pi
		return p
	}
	pm := c.methods.byID[*pi.PaymentMethod]
	if p := pm.usableBy(pi.Customer); p != nil {
		return p
	}
	pi.NextAction, pi.LastPaymentError, pi.returnURL = nil, nil, c.p.text("return_url")
	off := c.p.has("off_session") && c.p.text("off_session") != "false"
	asks := pm.card.asksNow(off, pm.setUp) && !pi.authenticated
	switch {
	case asks && off:
		return c.fail(pi, pm, needsCustomer)
	case asks && c.p.truth("error_on_requires_action"):
		return c.refuseAction(pi, pm)
	case asks:
		pi.Status, pi.NextAction = requiresAction, c.nextAction(pi.ID, pi.returnURL, c.p.truth("use_stripe_sdk"))
		c.emit("payment_intent.requires_action", pi)
		return nil
	}
	return c.pay(pi, pm)
}

// refuseAction: docs.stripe.com/api/payment_intents/create, error_on_requires_action. No charge is made.
func (c *call) refuseAction(pi *paymentIntent, pm *paymentMethod) *problem {
	d := (&decline{code: "authentication_required", declineCode: "authentication_not_handled", message: "Your card was declined. This transaction requires authentication."}).detail()
	d.PaymentMethod = pm
	pi.Status, pi.PaymentMethod, pi.LastPaymentError = requiresPaymentMethod, nil, &d
	c.emit("payment_intent.payment_failed", pi)
	shown := d
	shown.PaymentIntent = pi
	return &problem{status: 402, detail: shown, retry: "false"}
}

// nextAction is a redirect where there is somewhere to return to, else what Stripe.js would do (docs.stripe.com/api/payment_intents/object,
// next_action). Both lead to the simulator's page for the customer.
func (c *call) nextAction(id, returnURL string, sdk bool) *nextAction {
	url := c.base + pagePath + id
	if returnURL != "" && !sdk {
		return &nextAction{Type: "redirect_to_url", RedirectToURL: &redirect{ReturnURL: returnURL, URL: url}}
	}
	return &nextAction{Type: "use_stripe_sdk", UseStripeSDK: map[string]any{"type": "three_d_secure_redirect", "stripe_js": url}}
}

// pay charges the payment method; pi has all it needs.
func (c *call) pay(pi *paymentIntent, pm *paymentMethod) *problem {
	pi.authenticated = false
	if pm.card.decline != nil {
		return c.fail(pi, pm, pm.card.decline)
	}
	ch := c.newCharge(pi, pm)
	pi.LatestCharge, pi.NextAction = &ch.ID, nil
	pm.used = true
	c.saveFor(pi, pm)
	switch {
	case pm.card.bank:
		ch.Status, ch.Paid = "pending", false
		pi.Status = processing
		c.emit("charge.pending", ch)
		c.emit("payment_intent.processing", pi)
	case pi.CaptureMethod == "manual":
		pi.Status, pi.AmountCapturable = requiresCapture, pi.Amount
		pi.captureBefore = c.now + int64(authorizationLasts/time.Second)
		ch.authorize(pi.captureBefore)
		c.emit("charge.succeeded", ch)
		c.emit("payment_intent.amount_capturable_updated", pi)
	default:
		c.collect(pi, ch, pi.Amount)
		c.emit("charge.succeeded", ch)
		c.emit("payment_intent.succeeded", pi)
	}
	return nil
}

// saveFor attaches a payment method that is to be used again (docs.stripe.com/api/payment_intents/create,
// setup_future_usage).
func (c *call) saveFor(pi *paymentIntent, pm *paymentMethod) {
	if pi.SetupFutureUsage == nil {
		return
	}
	pm.setUp = pm.setUp || *pi.SetupFutureUsage == "off_session"
	if pi.Customer != nil && pm.Customer == nil {
		pm.Customer = pi.Customer
		c.emit("payment_method.attached", pm)
	}
}

// fail ends an attempt with a failed charge: the intent awaits another payment method (docs.stripe.com/payments/paymentintents/lifecycle).
func (c *call) fail(pi *paymentIntent, pm *paymentMethod, why *decline) *problem {
	ch := c.newCharge(pi, pm)
	ch.fail(why)
	d := why.detail()
	d.Charge, d.PaymentMethod = ch.ID, pm
	pi.Status, pi.PaymentMethod, pi.NextAction = requiresPaymentMethod, nil, nil
	pi.LastPaymentError, pi.LatestCharge, pi.authenticated = &d, &ch.ID, false
	c.emit("charge.failed", ch)
	c.emit("payment_intent.payment_failed", pi)
	shown := d
	shown.PaymentIntent = pi
	return &problem{status: 402, detail: shown, retry: "false"}
}
