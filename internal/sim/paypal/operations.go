package paypal

import (
	"github.com/smilefactory/integrations/internal/sim"
)

// operations are all that the simulator knows.
var operations = []operation{
	{id: "token", method: "POST", path: "/v1/oauth2/token", open: (*Sim).token},

	{id: "orders.create", method: "POST", path: "/v2/checkout/orders", body: &orderShape, retention: orderRetention, maxID: maxOrderID, act: (*Sim).createOrder},
	{id: "orders.get", method: "GET", path: "/v2/checkout/orders/{id}", act: (*Sim).getOrder},
	{id: "orders.patch", method: "PATCH", path: "/v2/checkout/orders/{id}", body: &patchShape, act: (*Sim).patchOrder},
	{id: "orders.capture", method: "POST", path: "/v2/checkout/orders/{id}/capture", body: &chargeShape, retention: orderRetention, maxID: maxOrderID, act: (*Sim).captureOrder},
	{id: "orders.authorize", method: "POST", path: "/v2/checkout/orders/{id}/authorize", body: &chargeShape, retention: orderRetention, maxID: maxOrderID, act: (*Sim).authorizeOrder},
	{id: "orders.confirm", method: "POST", path: "/v2/checkout/orders/{id}/confirm-payment-source", body: &confirmShape, act: (*Sim).confirmOrder},

	{id: "captures.get", method: "GET", path: "/v2/payments/captures/{id}", act: (*Sim).getCapture},
	{id: "captures.refund", method: "POST", path: "/v2/payments/captures/{id}/refund", body: &refundShape, retention: paymentRetention, exclusive: true, act: (*Sim).refundCapture},
	{id: "refunds.get", method: "GET", path: "/v2/payments/refunds/{id}", act: (*Sim).getRefund},
	{id: "authorizations.get", method: "GET", path: "/v2/payments/authorizations/{id}", act: (*Sim).getAuthorization},
	{id: "authorizations.capture", method: "POST", path: "/v2/payments/authorizations/{id}/capture", body: &authorizedCaptureShape, retention: paymentRetention, act: (*Sim).captureAuthorization},
	{id: "authorizations.reauthorize", method: "POST", path: "/v2/payments/authorizations/{id}/reauthorize", body: &reauthorizeShape, retention: paymentRetention, act: (*Sim).reauthorize},
	{id: "authorizations.void", method: "POST", path: "/v2/payments/authorizations/{id}/void", exclusive: true, act: (*Sim).voidAuthorization},

	{id: "setup-tokens.create", method: "POST", path: "/v3/vault/setup-tokens", body: &setupShape, retention: vaultRetention, mismatch: true, act: (*Sim).createSetupToken},
	{id: "setup-tokens.get", method: "GET", path: "/v3/vault/setup-tokens/{id}", act: (*Sim).getSetupToken},
	{id: "payment-tokens.create", method: "POST", path: "/v3/vault/payment-tokens", body: &saveShape, retention: vaultRetention, mismatch: true, act: (*Sim).createPaymentToken},
	{id: "payment-tokens.get", method: "GET", path: "/v3/vault/payment-tokens/{id}", act: (*Sim).getPaymentToken},
	{id: "payment-tokens.delete", method: "DELETE", path: "/v3/vault/payment-tokens/{id}", act: (*Sim).deletePaymentToken},
	{id: "customer.payment-tokens.get", method: "GET", path: "/v3/vault/payment-tokens", act: (*Sim).listPaymentTokens},

	{id: "webhooks.post", method: "POST", path: "/v1/notifications/webhooks", body: &webhookShape, act: (*Sim).createWebhook},
	{id: "webhooks.list", method: "GET", path: "/v1/notifications/webhooks", act: (*Sim).listWebhooks},
	{id: "webhooks.get", method: "GET", path: "/v1/notifications/webhooks/{id}", act: (*Sim).getWebhook},
	{id: "webhooks.delete", method: "DELETE", path: "/v1/notifications/webhooks/{id}", act: (*Sim).deleteWebhook},
	{id: "verify-webhook-signature.post", method: "POST", path: "/v1/notifications/verify-webhook-signature", body: &verifyShape, act: (*Sim).verify},
	{id: "webhooks-events.get", method: "GET", path: "/v1/notifications/webhooks-events/{id}", act: (*Sim).getEvent},

	{id: "certificate", method: "GET", path: certPath + "{id}", open: func(s *Sim, _ *call) sim.Reply { return s.certificate() }},
	{id: "buyer", method: "GET", path: approvePath, open: (*Sim).page},
	{id: "buyer.decide", method: "POST", path: approvePath, open: (*Sim).decide},
	{id: "buyer.setup", method: "GET", path: agreePath, open: (*Sim).page},
	{id: "buyer.setup.decide", method: "POST", path: agreePath, open: (*Sim).decide},
}
