package store

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"go.etcd.io/bbolt"
)

// A journal holds the sum of all that is in it, so that a disk which has changed a
// single bit of a record, or lost one, is found out: bbolt sums up its two meta pages
// alone. A sum takes the same time to keep up however many records there are.

// sumOf is a record's part of the sum. It has the lengths in it, so that no two records
// look alike.
func sumOf(path string, key, value []byte) uint64 {
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%d %d %d %s", len(path), len(key), len(value), path) // a hash takes all
	h.Write(key)
	h.Write(value)
	return binary.BigEndian.Uint64(h.Sum(nil))
}

// isSum reports whether a record is the sum itself, which is no part of it.
func isSum(path string, key []byte) bool {
	return path == "/"+string(bucketMeta) && string(key) == string(keySum)
}

// writing is a transaction that keeps the sum up.
type writing struct {
	tx    *bbolt.Tx
	delta uint64 // wraps around, up and down
}

// writingBucket is a bucket of it.
type writingBucket struct {
	*bbolt.Bucket
	path string
	in   *writing
}

// Bucket is one of the top-level buckets, which migrations have made.
func (w *writing) Bucket(name []byte) *writingBucket {
	return &writingBucket{w.tx.Bucket(name), "/" + string(name), w}
}

// inner is nil where there is none of that name.
func (b *writingBucket) inner(name []byte) *writingBucket {
	if inner := b.Bucket.Bucket(name); inner != nil {
		return &writingBucket{inner, b.path + "/" + string(name), b.in}
	}
	return nil
}

// Put writes a record.
func (b *writingBucket) Put(key, value []byte) error {
	b.take(key)
	if err := b.Bucket.Put(key, value); err != nil {
		return err
	}
	b.in.delta += sumOf(b.path, key, value)
	return nil
}

// Delete forgets one; an unknown one is no error.
func (b *writingBucket) Delete(key []byte) error {
	b.take(key)
	return b.Bucket.Delete(key)
}

// take takes what is there out of the sum. Where the change fails then, nothing of the
// transaction is written.
func (b *writingBucket) take(key []byte) {
	if before := b.Get(key); before != nil {
		b.in.delta -= sumOf(b.path, key, before)
	}
}

// empty deletes all records.
func (b *writingBucket) empty() error {
	var keys [][]byte
	if err := b.ForEach(func(k, _ []byte) error {
		keys = append(keys, append([]byte(nil), k...))
		return nil
	}); err != nil {
		return err
	}
	for _, k := range keys {
		if err := b.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

// seal writes the sum.
func (w *writing) seal() error {
	if w.delta == 0 {
		return nil
	}
	meta := w.tx.Bucket(bucketMeta)
	sum := w.delta
	if before := meta.Get(keySum); len(before) == 8 {
		sum += binary.BigEndian.Uint64(before)
	}
	return meta.Put(keySum, binary.BigEndian.AppendUint64(nil, sum))
}

// sumAll writes the sum anew, of all that there is.
func sumAll(tx *bbolt.Tx) error {
	sum := uint64(0)
	var add func(path string, b *bbolt.Bucket) error
	add = func(path string, b *bbolt.Bucket) error {
		return b.ForEach(func(k, v []byte) error {
			if v == nil {
				return add(path+"/"+string(k), b.Bucket(k))
			}
			if !isSum(path, k) {
				sum += sumOf(path, k, v)
			}
			return nil
		})
	}
	if err := tx.ForEach(func(name []byte, b *bbolt.Bucket) error { return add("/"+string(name), b) }); err != nil {
		return err
	}
	return tx.Bucket(bucketMeta).Put(keySum, binary.BigEndian.AppendUint64(nil, sum))
}
