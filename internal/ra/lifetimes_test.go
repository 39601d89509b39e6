package ra

import (
	"net/netip"
	"testing"
	"time"

	"github.com/v6net/v6net/internal/spec"
)

// A prefix that is lent is never advertised for longer than that (RFC 9096 §3.3).
func TestLifetimesOfWhatIsLent(t *testing.T) {
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		name                     string
		p                        spec.AdvertisedPrefix
		wantPreferred, wantValid spec.Seconds
	}{
		{"for ever", spec.AdvertisedPrefix{Preferred: 2700, Valid: 5400}, 2700, 5400},
		{"longer than we say", spec.AdvertisedPrefix{Preferred: 2700, Valid: 5400, PreferredUntil: now.Add(time.Hour), ValidUntil: now.Add(2 * time.Hour)}, 2700, 5400},
		{"shorter", spec.AdvertisedPrefix{Preferred: 2700, Valid: 5400, PreferredUntil: now.Add(10 * time.Minute), ValidUntil: now.Add(20 * time.Minute)}, 600, 1200},
		{"deprecated", spec.AdvertisedPrefix{Preferred: 2700, Valid: 5400, PreferredUntil: now.Add(-time.Second), ValidUntil: now.Add(20 * time.Minute)}, 0, 1200},
		{"valid for less than preferred", spec.AdvertisedPrefix{Preferred: 2700, Valid: 5400, ValidUntil: now.Add(time.Minute)}, 60, 60},
		{"over", spec.AdvertisedPrefix{Preferred: 2700, Valid: 5400, PreferredUntil: now.Add(-time.Hour), ValidUntil: now}, 0, 0},
		{"infinite", spec.AdvertisedPrefix{Preferred: spec.Infinity, Valid: spec.Infinity, ValidUntil: now.AddDate(300, 0, 0)}, spec.Infinity, spec.Infinity},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.p.Prefix = netip.MustParsePrefix("2001:db8::/64")
			wanted := spec.Advertisement{Prefixes: []spec.AdvertisedPrefix{tc.p}}
			got := current(wanted, now).Prefixes[0]
			if got.Preferred != tc.wantPreferred || got.Valid != tc.wantValid {
				t.Errorf("preferred %d, valid %d, want %d and %d", got.Preferred, got.Valid, tc.wantPreferred, tc.wantValid)
			}
			if wanted.Prefixes[0] != tc.p {
				t.Error("what is wanted was changed")
			}
		})
	}
}
