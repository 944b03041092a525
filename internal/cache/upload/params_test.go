package upload

import (
	"reflect"
	"testing"
)

func TestParams(t *testing.T) {
	usual := params{compression: "xz", level: -1}
	with := func(change func(*params)) params {
		p := usual
		change(&p)
		return p
	}
	for _, c := range []struct {
		address string
		want    params
		bad     bool
	}{
		{"file:///x", usual, false},
		{"file:///x?", usual, false},
		{"s3://b?region=eu&endpoint=h&&scheme=http", usual, false},
		{"x?compression=zstd&compression-level=19", with(func(p *params) { p.compression, p.level = "zstd", 19 }), false},
		{"x?parallel-compression=1&write-nar-listing=true&index-debug-info=yes", with(func(p *params) { p.parallel, p.listing, p.debugInfo = true, true, true }), false},
		{"x?write-nar-listing=false", usual, false},
		{"x?secret-key=/a+b%20c", with(func(p *params) { p.secretKey = "/a+b c" }), false},
		{"x?ls-compression=none&what", with(func(p *params) { p.unknown = []string{"what"} }), false},
		{"x?ls-compression=br", params{}, true},
		{"x?compression-level=", params{}, true},
		{"x?index-debug-info=", params{}, true},
		{"x?secret-key=%zz", params{}, true},
	} {
		got, err := parseParams(c.address)
		if (err != nil) != c.bad || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %+v, %v; want %+v", c.address, got, err, c.want)
		}
	}
}
