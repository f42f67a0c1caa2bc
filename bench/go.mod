module github.com/smilefactory/integrations/bench

go 1.26.0

require github.com/smilefactory/integrations v0.0.0

require github.com/hashicorp/golang-lru/v2 v2.0.7 // indirect

require (
	github.com/bits-and-blooms/bitset v1.24.4 // indirect
	github.com/cenkalti/backoff/v4 v4.3.0 // indirect
	github.com/failsafe-go/failsafe-go v0.9.8
	github.com/sony/gobreaker/v2 v2.4.0 // indirect
	golang.org/x/time v0.16.0 // indirect
)

replace github.com/smilefactory/integrations => ../
