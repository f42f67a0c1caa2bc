package paypal

import "regexp"

// The limits and patterns are those of the specifications' schemas, which each comment names.

var (
	currencyCode = shape{kind: aText, required: true, min: 3, max: 3}                                                                               // currency_code
	amountValue  = shape{kind: aText, required: true, max: 32, pattern: regexp.MustCompile(`^((-?[0-9]+)|(-?([0-9]+)?[.][0-9]+))$`)}                // money
	emailAddress = shape{kind: aText, min: 3, max: 254}                                                                                             // email
	accountID    = shape{kind: aText, min: 13, max: 13, pattern: regexp.MustCompile(`^[2-9A-HJ-NP-Z]{13}$`)}                                        // account_id
	vaultID      = shape{kind: aText, min: 1, max: 255, pattern: regexp.MustCompile(`^[0-9a-zA-Z_-]+$`)}                                            // vault_id
	upperName    = shape{kind: aText, min: 1, max: 255, pattern: regexp.MustCompile(`^[0-9A-Z_-]+$`)}                                               // the pattern of most enumerations
	ownID        = shape{kind: aText, min: 1, max: 127}                                                                                             // custom_id, invoice_id
	customerID   = shape{kind: aText, min: 1, max: 22, pattern: regexp.MustCompile(`^[0-9a-zA-Z_-]+$`)}                                             // merchant_partner_customer_id
	returnURL    = shape{kind: aText, min: 1, max: 4000, pattern: regexp.MustCompile(`^https?://`)}                                                 // url
	tokenTypes   = shape{kind: aText, required: true, oneOf: []string{"BILLING_AGREEMENT"}}                                                         // token
	moneyShape   = recordOf(map[string]shape{"currency_code": currencyCode, "value": amountValue})                                                  // money
	payeeShape   = recordOf(map[string]shape{"email_address": emailAddress, "merchant_id": accountID})                                              // payee
	customer     = recordOf(map[string]shape{"id": customerID, "email_address": emailAddress, "phone": {}, "merchant_customer_id": {}, "name": {}}) // customer
)

func recordOf(fields map[string]shape) shape { return shape{kind: aRecord, fields: fields} }

func listOf(low, high int, items shape) shape {
	return shape{kind: aList, min: low, max: high, items: &items}
}

func needed(s shape) shape {
	s.required = true
	return s
}

func enum(values ...string) shape { return shape{kind: aText, oneOf: values} }

// orderShape is order_request of the Orders v2 specification.
var orderShape = recordOf(map[string]shape{
	"intent":                 needed(enum("CAPTURE", "AUTHORIZE")),
	"purchase_units":         needed(listOf(1, 10, unitShape)),
	"payment_source":         sourceShape,
	"application_context":    contextShape,
	"processing_instruction": upperName,
	"payer":                  {},
})

// unitShape is purchase_unit_request.
var unitShape = recordOf(map[string]shape{
	"reference_id":    {kind: aText, min: 1, max: 256},
	"amount":          needed(recordOf(map[string]shape{"currency_code": currencyCode, "value": amountValue, "breakdown": breakdownShape})),
	"payee":           payeeShape,
	"description":     {kind: aText, min: 1, max: 127},
	"custom_id":       ownID,
	"invoice_id":      ownID,
	"soft_descriptor": {kind: aText, min: 1, max: 22},
	"items":           {kind: aList, items: &itemShape},
	"shipping":        {}, "payment_instruction": {}, "supplementary_data": {},
})

// breakdownShape is amount_breakdown.
var breakdownShape = recordOf(map[string]shape{
	"item_total": moneyShape, "shipping": moneyShape, "handling": moneyShape, "tax_total": moneyShape,
	"insurance": moneyShape, "shipping_discount": moneyShape, "discount": moneyShape,
})

// itemShape is item.
var itemShape = recordOf(map[string]shape{
	"name": needed(shape{kind: aText, min: 1, max: 127}), "unit_amount": needed(moneyShape), "tax": moneyShape,
	"quantity":    {kind: aText, required: true, max: 10, pattern: regexp.MustCompile(`^[1-9][0-9]{0,9}$`)},
	"description": {kind: aText, max: 127}, "sku": {kind: aText, max: 127},
	"category": enum("DIGITAL_GOODS", "PHYSICAL_GOODS", "DONATION"), "url": {}, "image_url": {}, "upc": {},
})

// contextShape is order_application_context.
var contextShape = recordOf(map[string]shape{
	"brand_name": {kind: aText, min: 1, max: 127}, "locale": {kind: aText, min: 2, max: 10},
	"landing_page":        enum("LOGIN", "BILLING", "NO_PREFERENCE"),
	"shipping_preference": enum("GET_FROM_FILE", "NO_SHIPPING", "SET_PROVIDED_ADDRESS"),
	"user_action":         enum("CONTINUE", "PAY_NOW"),
	"return_url":          returnURL, "cancel_url": returnURL,
	"payment_method": {}, "stored_payment_source": storedSource,
})

// storedSource is stored_payment_source, and card_stored_credential.
var storedSource = recordOf(map[string]shape{
	"payment_initiator":                      needed(enum("CUSTOMER", "MERCHANT")),
	"payment_type":                           needed(enum("ONE_TIME", "RECURRING", "UNSCHEDULED")),
	"usage":                                  enum("FIRST", "SUBSEQUENT", "DERIVED"),
	"previous_network_transaction_reference": {}, "previous_transaction_reference": {},
})

// experienceShape is paypal_wallet_experience_context, with what the card's and Venmo's have.
var experienceShape = recordOf(map[string]shape{
	"brand_name": {kind: aText, min: 1, max: 127}, "locale": {kind: aText, min: 2, max: 10},
	"shipping_preference": enum("GET_FROM_FILE", "NO_SHIPPING", "SET_PROVIDED_ADDRESS"),
	"return_url":          returnURL, "cancel_url": returnURL,
	"landing_page": enum("LOGIN", "GUEST_CHECKOUT", "NO_PREFERENCE"), "user_action": enum("CONTINUE", "PAY_NOW"),
	"payment_method_preference": enum("UNRESTRICTED", "IMMEDIATE_PAYMENT_REQUIRED"),
	"payment_method_selected":   upperName,
	"vault_instruction":         upperName, // Payment Method Tokens v3, experience_context
})

// attributesShape is paypal_wallet_attributes and card_attributes.
var attributesShape = recordOf(map[string]shape{
	"customer": customer,
	"vault": recordOf(map[string]shape{
		"store_in_vault": enum("ON_SUCCESS"), "description": {kind: aText, min: 1, max: 128},
		"usage_type": enum("MERCHANT", "PLATFORM"), "customer_type": enum("CONSUMER", "BUSINESS"),
		"permit_multiple_payment_tokens": {kind: aBool}, "usage_pattern": upperName, "shipping": {},
	}),
	"verification": {},
})

// sourceShape is payment_source. Payment methods other than these aren't simulated.
var sourceShape = recordOf(map[string]shape{
	"paypal": recordOf(map[string]shape{
		"vault_id": vaultID, "email_address": emailAddress, "experience_context": experienceShape, "attributes": attributesShape,
		"stored_credential": storedSource, "billing_agreement_id": vaultID, "name": {}, "phone": {}, "birth_date": {}, "tax_info": {}, "address": {},
	}),
	"venmo": recordOf(map[string]shape{
		"vault_id": vaultID, "email_address": emailAddress, "experience_context": experienceShape, "attributes": attributesShape,
	}),
	"card": recordOf(map[string]shape{
		"vault_id": vaultID, "experience_context": experienceShape, "attributes": attributesShape, "stored_credential": storedSource,
		"number": {kind: aText, min: 13, max: 19}, "expiry": {}, "security_code": {}, "name": {}, "billing_address": {},
	}),
	"token": recordOf(map[string]shape{"id": needed(vaultID), "type": tokenTypes}),
})

// chargeShape is order_capture_request and order_authorize_request.
var chargeShape = recordOf(map[string]shape{"payment_source": sourceShape})

// confirmShape is confirm_order_request.
var confirmShape = recordOf(map[string]shape{
	"payment_source": needed(sourceShape), "application_context": {}, "processing_instruction": upperName,
})

// patchShape is patch_request.
var patchShape = listOf(0, 0, recordOf(map[string]shape{
	"op": needed(enum("add", "remove", "replace", "move", "copy", "test")), "path": {kind: aText}, "from": {kind: aText}, "value": {},
}))

// authorizedCaptureShape is capture_request of the Payments v2 specification.
var authorizedCaptureShape = recordOf(map[string]shape{
	"amount": moneyShape, "invoice_id": ownID, "final_capture": {kind: aBool}, "note_to_payer": {kind: aText, max: 255},
	"soft_descriptor": {kind: aText, max: 22}, "payment_instruction": {},
})

// reauthorizeShape is reauthorize_request of the Payments v2 specification.
var reauthorizeShape = recordOf(map[string]shape{"amount": moneyShape})

// refundShape is refund_request of the Payments v2 specification.
var refundShape = recordOf(map[string]shape{
	"amount": moneyShape, "custom_id": ownID, "invoice_id": ownID, "note_to_payer": {kind: aText, min: 1, max: 255}, "payment_instruction": {},
})
