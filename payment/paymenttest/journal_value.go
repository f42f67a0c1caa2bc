package paymenttest

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/smilefactory/integrations/payment"
)

// fullEntry is an entry in which every field has a value, also those that don't
// exist yet: they are found by reflection.
func fullEntry(t testing.TB, k payment.Key) *payment.Entry {
	t.Helper()
	var e payment.Entry
	f := filler{}
	f.fill(reflect.ValueOf(&e).Elem(), "")
	if f.cant != "" {
		t.Fatalf("the suite has no value for %s", f.cant)
	}
	e.Key, e.Version = k, 0
	for i := range e.Attempts {
		e.Attempts[i].Number = i + 1
	}
	for i := range e.Refunds {
		e.Refunds[i].Attempt = i + 1
	}
	return &e
}

// filler gives every field a value that no other has.
type filler struct {
	n    int64
	cant string // the first field that it can't fill
}

var zones = []*time.Location{time.UTC, time.FixedZone("east", 9*3600+1800), time.FixedZone("west", -8*3600), time.Local} //nolint:gosmopolitan // of every kind

func (f *filler) fill(v reflect.Value, path string) {
	f.n++
	if v.Type() == reflect.TypeFor[time.Time]() {
		at := suiteTime.Add(time.Duration(f.n) * 12_345_678 * time.Microsecond) // with a part of a millisecond
		v.Set(reflect.ValueOf(at.In(zones[f.n%int64(len(zones))])))
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.String:
		v.SetString(fmt.Sprintf("%s %d é漢 \"<&>'\\ \u2028\n", path, f.n))
	case reflect.Int64, reflect.Int:
		v.SetInt(1<<62 + f.n) // which no float64 has
	case reflect.Uint8:
		v.SetUint(uint64(200 + f.n%50))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		f.fill(v.Elem(), path)
	case reflect.Struct:
		for i := range v.NumField() {
			f.fill(v.Field(i), path+"."+v.Type().Field(i).Name)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			f.fill(v.Index(i), fmt.Sprintf("%s[%d]", path, i))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range 2 {
			name, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			f.fill(name, path+" name")
			f.fill(value, path+" value")
			v.SetMapIndex(name, value)
		}
	default:
		f.cant = path + ", a " + v.Type().String()
	}
}

// differ says where two entries differ first, empty where they don't. Times are
// compared to the millisecond, a map without anything is the same as none, and so
// is the currency that an order has by default.
func differ(got, want *payment.Entry) string {
	return differAt("", reflect.ValueOf(got).Elem(), reflect.ValueOf(want).Elem())
}

func differAt(path string, got, want reflect.Value) string {
	if at, ok := reflect.TypeAssert[time.Time](want); ok {
		is, _ := reflect.TypeAssert[time.Time](got) // of the same type
		if is.Sub(at).Abs() >= time.Millisecond || is.IsZero() != at.IsZero() {
			return fmt.Sprintf("%s is %v, want %v", path, is, at)
		}
		return ""
	}
	switch want.Kind() {
	case reflect.Struct:
		for i := range want.NumField() {
			if d := differAt(path+"."+want.Type().Field(i).Name, got.Field(i), want.Field(i)); d != "" {
				return d
			}
		}
		return ""
	case reflect.Slice:
		if got.Len() != want.Len() {
			return fmt.Sprintf("%s has %d elements, want %d", path, got.Len(), want.Len())
		}
		for i := range want.Len() {
			if d := differAt(fmt.Sprintf("%s[%d]", path, i), got.Index(i), want.Index(i)); d != "" {
				return d
			}
		}
		return ""
	default:
	}
	if none(got) && none(want) || reflect.DeepEqual(got.Interface(), want.Interface()) {
		return ""
	}
	return fmt.Sprintf("%s is %#v, want %#v", path, got, want)
}

func none(v reflect.Value) bool { return v.Kind() == reflect.Map && v.Len() == 0 }
