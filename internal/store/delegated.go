package store

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"

	"go.etcd.io/bbolt"

	"github.com/v6net/v6net/internal/spec"
)

// DelegationLeases are what sources have lent to this host.
func (s *Store) DelegationLeases() (leases []spec.DelegationLease, err error) {
	if err := s.db.View(func(tx *bbolt.Tx) error { return readAll(tx, bucketDelegated, &leases) }); err != nil {
		return nil, fmt.Errorf("read journal %s: %w", s.db.Path(), err)
	}
	return leases, nil
}

// PutDelegationLease writes what a source has lent on a link.
func (s *Store) PutDelegationLease(l spec.DelegationLease) error {
	return s.put(bucketDelegated, delegationKey(l.SourceOnLink), l)
}

// DeleteDelegationLease forgets it; an unknown one is no error.
func (s *Store) DeleteDelegationLease(at spec.SourceOnLink) error {
	return s.remove(bucketDelegated, delegationKey(at))
}

// MoveDelegationLease writes a lease in place of another one, whose link has another name
// now. The link keeps its numbers (IAID), and what had that name before gets those of the
// former name, so that none is given again.
func (s *Store) MoveDelegationLease(from spec.SourceOnLink, l spec.DelegationLease) error {
	return s.update("lease of "+delegationKey(from), func(tx *writing) error {
		if err := tx.Bucket(bucketDelegated).Delete([]byte(delegationKey(from))); err != nil {
			return err
		}
		if len(l.Delegations()) > 0 {
			if err := putIn(tx, bucketDelegated, delegationKey(l.SourceOnLink), l); err != nil {
				return err
			}
		}
		if from.Source != spec.SourcePD {
			return nil
		}
		return exchangeNumbers(tx.Bucket(bucketIAIDs), from.Link, l.Link)
	})
}

// exchangeNumbers gives each of two links the numbers of the other one.
func exchangeNumbers(ids *writingBucket, one, other string) error {
	numbers := map[string][]byte{} // by the names that they had
	if err := ids.ForEach(func(k, v []byte) error {
		if link, _, _ := strings.Cut(string(k), "/"); link == one || link == other {
			numbers[string(k)] = bytes.Clone(v)
		}
		return nil
	}); err != nil {
		return err
	}
	for name := range numbers {
		if err := ids.Delete([]byte(name)); err != nil {
			return err
		}
	}
	for name, number := range numbers {
		link, to := one, other
		if !strings.HasPrefix(name+"/", one+"/") {
			link, to = other, one
		}
		if err := ids.Put([]byte(to+strings.TrimPrefix(name, link)), number); err != nil {
			return err
		}
	}
	return nil
}

// delegationKey is for one source and link; no link's name has a slash in it.
func delegationKey(at spec.SourceOnLink) string { return at.Link + "/" + string(at.Source) }

// Clock is the time by which lifetimes are kept, as PutClock wrote it last; empty: never.
func (s *Store) Clock() (record spec.ClockRecord, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		if v := tx.Bucket(bucketMeta).Get(keyClock); v != nil {
			return json.Unmarshal(v, &record)
		}
		return nil
	})
	if err != nil {
		return spec.ClockRecord{}, fmt.Errorf("read journal %s: clock: %w", s.db.Path(), err)
	}
	return record, nil
}

// PutClock writes it.
func (s *Store) PutClock(record spec.ClockRecord) error {
	return s.put(bucketMeta, string(keyClock), record)
}

// DUID returns this host's name to DHCPv6 servers (RFC 8415 §11), which make
// provides the first time.
func (s *Store) DUID(make func() ([]byte, error)) (duid []byte, err error) {
	err = s.update("DUID", func(tx *writing) error {
		if duid = bytes.Clone(tx.Bucket(bucketMeta).Get(keyDUID)); duid != nil {
			return nil
		}
		var err error
		if duid, err = make(); err != nil {
			return err
		}
		return tx.Bucket(bucketMeta).Put(keyDUID, duid)
	})
	return duid, err
}

// IAID returns the number of a link's prefix delegation, which is the same for good
// and no other link's (RFC 8415 §12): 1 for the first link that asks, and so on.
func (s *Store) IAID(link string) (id uint32, err error) {
	err = s.update("IAID of "+link, func(tx *writing) error {
		ids := tx.Bucket(bucketIAIDs)
		if v := ids.Get([]byte(link)); len(v) == 4 {
			id = binary.BigEndian.Uint32(v)
			return nil
		}
		if err := ids.ForEach(func(_, v []byte) error { // none is ever deleted
			id = max(id, binary.BigEndian.Uint32(v))
			return nil
		}); err != nil {
			return err
		}
		id++
		return ids.Put([]byte(link), binary.BigEndian.AppendUint32(nil, id))
	})
	return id, err
}
