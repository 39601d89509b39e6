// Package store is the journal: one bbolt file that holds what v6net has promised.
//
// Every write is one transaction, on disk before it returns. The file is locked
// while it is open, and carries the version of its schema.
package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/v6net/v6net/internal/spec"
)

// The top-level buckets. Leases has one bucket below it for every pool.
var (
	bucketMeta       = []byte("meta")
	bucketNetworks   = []byte("networks")
	bucketEndpoints  = []byte("endpoints")
	bucketPools      = []byte("pools")
	bucketLeases     = []byte("leases")
	bucketSysctls    = []byte("sysctls")
	bucketAdvertised = []byte("advertised")
	bucketDelegated  = []byte("delegated")
	bucketIAIDs      = []byte("iaids")
)

// buckets are all of them.
var buckets = [][]byte{bucketMeta, bucketNetworks, bucketEndpoints, bucketPools, bucketLeases, bucketSysctls, bucketAdvertised, bucketDelegated, bucketIAIDs}

// lockTimeout bounds the wait for another process that has the journal open.
const lockTimeout = 5 * time.Second

// Store is an open journal.
type Store struct{ db *bbolt.DB }

// Open opens or makes the journal at path, with the folders above it, and
// migrates an older schema. It fails if another process has the journal open,
// or a newer v6net wrote it.
func Open(path string) (*Store, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("journal %s: %w", path, err)
	}
	err := check(path)
	var db *bbolt.DB
	if err == nil {
		// Which pages are free is found out at every start: no list of them can be damaged.
		db, err = bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockTimeout, FreelistType: bbolt.FreelistMapType, NoFreelistSync: true})
	}
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("journal %s: another v6net daemon has it open", path)
	}
	if err != nil {
		return nil, fmt.Errorf("journal %s: %w", path, err)
	}
	if err := db.Update(migrate); err != nil {
		return nil, errors.Join(fmt.Errorf("journal %s: %w", path, err), db.Close())
	}
	return &Store{db: db}, nil
}

// Close gives the journal back.
func (s *Store) Close() error { return s.db.Close() }

// Load reads the whole journal.
func (s *Store) Load() (spec.State, error) {
	state := spec.State{Leases: map[string][]netip.Addr{}, Sysctls: map[string]string{}}
	err := s.db.View(func(tx *bbolt.Tx) error {
		if err := errors.Join(
			readAll(tx, bucketNetworks, &state.Networks),
			readAll(tx, bucketEndpoints, &state.Endpoints),
			readAll(tx, bucketPools, &state.Pools),
			readAll(tx, bucketAdvertised, &state.Advertised),
		); err != nil {
			return err
		}
		if err := tx.Bucket(bucketSysctls).ForEach(func(k, v []byte) error {
			state.Sysctls[string(k)] = string(v)
			return nil
		}); err != nil {
			return err
		}
		return tx.Bucket(bucketLeases).ForEachBucket(func(pool []byte) error {
			return tx.Bucket(bucketLeases).Bucket(pool).ForEach(func(k, _ []byte) error {
				addr, ok := netip.AddrFromSlice(k)
				if !ok {
					return fmt.Errorf("pool %s: lease key %x is no address", pool, k)
				}
				state.Leases[string(pool)] = append(state.Leases[string(pool)], addr)
				return nil
			})
		})
	})
	if err != nil {
		return spec.State{}, fmt.Errorf("read journal %s: %w", s.db.Path(), err)
	}
	return state, nil
}

func readAll[T any](tx *bbolt.Tx, bucket []byte, dst *[]T) error {
	return tx.Bucket(bucket).ForEach(func(k, v []byte) error {
		var record T
		if err := json.Unmarshal(v, &record); err != nil {
			return fmt.Errorf("%s/%s: %w", bucket, k, err)
		}
		*dst = append(*dst, record)
		return nil
	})
}

// HasEndpoints reports whether there is any, before all are read.
func (s *Store) HasEndpoints() (has bool, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		k, _ := tx.Bucket(bucketEndpoints).Cursor().First()
		has = k != nil
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("read journal %s: %w", s.db.Path(), err)
	}
	return has, nil
}

// PutNetwork writes a network.
func (s *Store) PutNetwork(n spec.Network) error { return s.put(bucketNetworks, n.ID, n) }

// DeleteNetwork forgets a network; an unknown one is no error.
func (s *Store) DeleteNetwork(id string) error { return s.remove(bucketNetworks, id) }

// PutEndpoint writes an endpoint.
func (s *Store) PutEndpoint(e spec.Endpoint) error { return s.put(bucketEndpoints, e.ID, e) }

// PutAll writes networks, pools and endpoints, all of them or none.
func (s *Store) PutAll(networks []spec.Network, pools []spec.Pool, endpoints []spec.Endpoint) error {
	what := fmt.Sprintf("put %d networks, %d pools and %d endpoints", len(networks), len(pools), len(endpoints))
	return s.update(what, func(tx *writing) error { return putTogether(tx, networks, pools, endpoints) })
}

func putTogether(tx *writing, networks []spec.Network, pools []spec.Pool, endpoints []spec.Endpoint) error {
	for _, n := range networks {
		if err := putIn(tx, bucketNetworks, n.ID, n); err != nil {
			return err
		}
	}
	for _, p := range pools {
		if err := putIn(tx, bucketPools, p.ID, p); err != nil {
			return err
		}
	}
	for _, e := range endpoints {
		if err := putIn(tx, bucketEndpoints, e.ID, e); err != nil {
			return err
		}
	}
	return nil
}

// PutFollowing writes networks and pools on links by other names, and all settings that are
// recorded; nil: these stay as they were. All of it or none.
func (s *Store) PutFollowing(networks []spec.Network, pools []spec.Pool, sysctls map[string]string) error {
	what := fmt.Sprintf("put %d networks, %d pools and %d settings on links by other names", len(networks), len(pools), len(sysctls))
	return s.update(what, func(tx *writing) error {
		if err := putTogether(tx, networks, pools, nil); err != nil || sysctls == nil {
			return err
		}
		bucket := tx.Bucket(bucketSysctls)
		if err := bucket.empty(); err != nil {
			return err
		}
		for key, original := range sysctls {
			if err := bucket.Put([]byte(key), []byte(original)); err != nil {
				return err
			}
		}
		return nil
	})
}

func putIn(tx *writing, bucket []byte, key string, record any) error {
	value, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("encode %s/%s: %w", bucket, key, err)
	}
	return tx.Bucket(bucket).Put([]byte(key), value)
}

// DeleteEndpoint forgets an endpoint; an unknown one is no error.
func (s *Store) DeleteEndpoint(id string) error { return s.remove(bucketEndpoints, id) }

// PutPool writes a pool.
func (s *Store) PutPool(p spec.Pool) error { return s.put(bucketPools, p.ID, p) }

// DeletePool forgets a pool and all of its leases; an unknown one is no error.
func (s *Store) DeletePool(id string) error {
	return s.update("delete pool "+id, func(tx *writing) error {
		all := tx.Bucket(bucketLeases)
		if leases := all.inner([]byte(id)); leases != nil {
			if err := errors.Join(leases.empty(), all.DeleteBucket([]byte(id))); err != nil {
				return err
			}
		}
		return tx.Bucket(bucketPools).Delete([]byte(id))
	})
}

// PutLease writes a lease of a pool.
func (s *Store) PutLease(poolID string, addr netip.Addr) error {
	return s.update(fmt.Sprintf("put lease %s of pool %s", addr, poolID), func(tx *writing) error {
		all := tx.Bucket(bucketLeases)
		if _, err := all.CreateBucketIfNotExists([]byte(poolID)); err != nil {
			return err
		}
		return all.inner([]byte(poolID)).Put(addr.AsSlice(), []byte{})
	})
}

// DeleteLease forgets a lease; an unknown one is no error.
func (s *Store) DeleteLease(poolID string, addr netip.Addr) error {
	return s.update(fmt.Sprintf("delete lease %s of pool %s", addr, poolID), func(tx *writing) error {
		leases := tx.Bucket(bucketLeases).inner([]byte(poolID))
		if leases == nil {
			return nil
		}
		return leases.Delete(addr.AsSlice())
	})
}

// PutAdvertised writes what links are told by router advertisement, all of it or none.
func (s *Store) PutAdvertised(all ...spec.Advertisement) error {
	return s.update(fmt.Sprintf("put what %d links are told", len(all)), func(tx *writing) error {
		for _, a := range all {
			if err := putIn(tx, bucketAdvertised, a.Link, a); err != nil {
				return err
			}
		}
		return nil
	})
}

// DeleteAdvertised forgets a link that is told nothing; an unknown one is no error.
func (s *Store) DeleteAdvertised(link string) error { return s.remove(bucketAdvertised, link) }

// PutSysctl writes what a setting of the host held before v6net changed it.
func (s *Store) PutSysctl(key, original string) error {
	return s.update("put sysctl "+key, func(tx *writing) error {
		return tx.Bucket(bucketSysctls).Put([]byte(key), []byte(original))
	})
}

// DeleteSysctl forgets a setting; an unknown one is no error.
func (s *Store) DeleteSysctl(key string) error { return s.remove(bucketSysctls, key) }

// GlobalID returns this host's RFC 4193 global ID, which make provides the first time.
func (s *Store) GlobalID(make func() ([5]byte, error)) ([5]byte, error) {
	var id [5]byte
	err := s.update("global ID", func(tx *writing) error {
		if copy(id[:], tx.Bucket(bucketMeta).Get(keyGlobalID)) == len(id) {
			return nil
		}
		var err error
		if id, err = make(); err != nil {
			return err
		}
		return tx.Bucket(bucketMeta).Put(keyGlobalID, id[:])
	})
	return id, err
}

// Boot reports whether this boot of the machine is another one than that which Booted has noted
// last; the journal's first counts as noted. In each boot it forgets once the sysctls, which the
// kernel has started with values of its own: what is set in this boot is to be put back, however
// often a start is killed before Booted.
func (s *Store) Boot(id string) (other bool, err error) {
	err = s.update("boot", func(tx *writing) error {
		meta := tx.Bucket(bucketMeta)
		before, sysctls := meta.Get(keyBoot), meta.Get(keySysctlsBoot)
		if before == nil {
			return meta.Put(keyBoot, []byte(id))
		}
		other = string(before) != id
		if !other || string(sysctls) == id {
			return nil
		}
		if err := tx.Bucket(bucketSysctls).empty(); err != nil {
			return err
		}
		return meta.Put(keySysctlsBoot, []byte(id))
	})
	return other, err
}

// Booted notes that the kernel is in step with the journal in this boot of the machine.
func (s *Store) Booted(id string) error {
	return s.update("booted", func(tx *writing) error { return tx.Bucket(bucketMeta).Put(keyBoot, []byte(id)) })
}

func (s *Store) put(bucket []byte, key string, record any) error {
	return s.update(fmt.Sprintf("put %s/%s", bucket, key), func(tx *writing) error {
		return putIn(tx, bucket, key, record)
	})
}

func (s *Store) remove(bucket []byte, key string) error {
	return s.update(fmt.Sprintf("delete %s/%s", bucket, key), func(tx *writing) error {
		return tx.Bucket(bucket).Delete([]byte(key))
	})
}

func (s *Store) update(what string, f func(*writing) error) error {
	if err := s.db.Update(func(tx *bbolt.Tx) error {
		w := &writing{tx: tx}
		if err := f(w); err != nil {
			return err
		}
		return w.seal()
	}); err != nil {
		return fmt.Errorf("journal: %s: %w", what, err)
	}
	return nil
}
