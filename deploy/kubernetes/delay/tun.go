//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	device = "delay0"
	// largest is a packet that is yet to be cut into segments, and the header that says how.
	largest = 1<<16 + 64
)

// A tun is the device that packets leave the kernel by, and come back. They have the header of virtio,
// which says what remains to be done for them (checksums, segments): so a long write of a pod is one
// packet here, and is cut, if at all, after it has come back.
type tun struct {
	fd     int
	buffer []byte
}

// openTUN makes the device. It is gone when the process is.
func openTUN() (*tun, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	t := &tun{fd: fd, buffer: make([]byte, largest)}
	request, err := unix.NewIfreq(device)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err == nil {
		err = unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, unix.TUN_F_CSUM|unix.TUN_F_TSO4)
	}
	if err == nil { // the source of what comes back is behind another device
		err = os.WriteFile("/proc/sys/net/ipv4/conf/"+device+"/rp_filter", []byte("2"), 0)
	}
	if err != nil {
		t.close()
		return nil, fmt.Errorf("make the device %s: %w", device, err)
	}
	return t, nil
}

func (t *tun) close() { _ = unix.Close(t.fd) }

// await returns when there is a packet, or after so long a time.
func (t *tun) await(wait time.Duration) error {
	timeout := unix.NsecToTimespec(wait.Nanoseconds())
	_, err := unix.Ppoll([]unix.PollFd{{Fd: int32(t.fd), Events: unix.POLLIN}}, &timeout, nil)
	if errors.Is(err, unix.EINTR) {
		return nil
	}
	return err
}

// read is nil when there is no packet.
func (t *tun) read() ([]byte, error) {
	n, err := unix.Read(t.fd, t.buffer)
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read a packet: %w", err)
	}
	return bytes.Clone(t.buffer[:n]), nil
}

// write is false when the kernel did not want the packet.
func (t *tun) write(packet []byte) bool {
	_, err := unix.Write(t.fd, packet)
	return err == nil
}
