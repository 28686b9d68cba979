// What hashicorp's memberlist does on loopback: the other side of the membership benchmark. memberlist.py builds and
// runs it: Debian's packages golang-go and golang-github-hashicorp-memberlist-dev are all it needs.
//
// The rule: memberlist as it comes (its LAN defaults, its own sockets), measured from outside through its public
// interface. Members that are to crash live in a child process, which is ended by SIGKILL; all others share this one.
// Each measurement prints one line of JSON; what did not happen within the limit is null.
//
// No process outlives the benchmark: each of them ends when its standard input does.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	// Until nobody has news left to tell after members have come together.
	quiet = 3 * time.Second
	// From one member's joining to the next one's, where the joining is not what is measured.
	gentle = 100 * time.Millisecond
	// Within which members know each other that joined gently. Gossip alone may miss somebody; then it takes until the
	// next exchange of full state, which is every 30 s, and every 60 s among more than 32.
	acquainted = 3 * time.Minute
	// Within which those of a join storm start, as in our own measurement.
	burst = 50 * time.Millisecond
	// Between two tries to join, where the first one failed.
	retry = time.Second
	// A member tells that it leaves within this time or not at all.
	leaving = 10 * time.Second
	// Between two looks at a view; only of members in the child process, and before anything is measured.
	glance = 20 * time.Millisecond
	// The command of the child process.
	host = "host"
)

// options are the command line's.
type options struct {
	members, victims, runs int
	stagger, limit         time.Duration
	settle, window         time.Duration
	sealed                 bool
	join, prefix           string
}

func main() {
	rand.Seed(time.Now().UnixNano())
	if len(os.Args) < 2 {
		fail(errors.New("which measurement: crash, storm, leave or idle?"))
	}
	var o options
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	flags.IntVar(&o.members, "members", 10, "size of the cluster")
	flags.IntVar(&o.victims, "victims", 1, "crash: members that are killed, all at once")
	flags.IntVar(&o.runs, "runs", 1, "clusters, one for each line of output")
	flags.DurationVar(&o.stagger, "stagger", 2*time.Second, "from the start of a cluster to that of the next")
	flags.DurationVar(&o.limit, "limit", time.Minute, "after which a measurement is given up")
	flags.DurationVar(&o.settle, "settle", quiet, "idle: from when all know each other to the window")
	flags.DurationVar(&o.window, "window", 30*time.Second, "idle: what is sent within it is counted")
	flags.BoolVar(&o.sealed, "sealed", false, "idle: with encryption, AES-256")
	flags.StringVar(&o.join, "join", "", "host: whom to join")
	flags.StringVar(&o.prefix, "prefix", "", "host: names of its members")
	if err := flags.Parse(os.Args[2:]); err != nil {
		fail(err)
	}
	go endWithInput()
	switch os.Args[1] {
	case "crash":
		each(o, crash)
	case "storm":
		each(o, storm)
	case "leave":
		each(o, leave)
	case "idle":
		each(o, idle)
	case host:
		hostVictims(o)
	default:
		fail(fmt.Errorf("%s: no such measurement", os.Args[1]))
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "memberlist:", err)
	os.Exit(1)
}

// endWithInput ends this process when whoever started it has gone.
func endWithInput() {
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(3)
}

// each runs a measurement on its own cluster so often, prints what each has found, and returns when all have.
//
// The clusters overlap: nearly all of their time is waiting.
func each(o options, measure func(options, string) interface{}) {
	var output sync.Mutex
	var all sync.WaitGroup
	for run := 0; run < o.runs; run++ {
		if run > 0 {
			time.Sleep(o.stagger)
		}
		all.Add(1)
		go func(name string) {
			defer all.Done()
			found := measure(o, name)
			output.Lock()
			defer output.Unlock()
			if err := json.NewEncoder(os.Stdout).Encode(found); err != nil {
				fail(err)
			}
		}(fmt.Sprintf("r%d-", run))
	}
	all.Wait()
}

// -- the measurements -------------------------------------------------------------------------------------------------

type crashFound struct {
	First *float64 `json:"first"` // seconds until the first survivor holds the first victim dead
	All   *float64 `json:"all"`   // seconds until all survivors hold all victims dead
	Wrong int      `json:"wrong"` // times that a survivor was held dead
}

func crash(o options, name string) interface{} {
	c := newCluster(o)
	defer c.shutdown()
	c.grow(name+"s", o.members-o.victims)
	c.await("survivors know each other", func() bool { return c.known == c.pairs(len(c.nodes)) })
	child, kill := startVictims(o, name+"v", c.nodes[0].LocalNode().Address())
	victims := names(name+"v", o.victims)
	c.await("survivors know the victims", func() bool {
		return c.holding(victims) == o.victims*len(c.nodes)
	})
	if line, err := child.ReadString('\n'); err != nil || line != "ready\n" {
		fail(fmt.Errorf("the child with the victims said %q: %v", line, err))
	}
	time.Sleep(quiet + time.Duration(rand.Int63n(int64(time.Second))))
	c.await("nobody is held dead by mistake", func() bool { return c.holding(victims) == o.victims*len(c.nodes) })
	c.resetDeaths()
	began := time.Now()
	kill()
	first := c.seconds(began, o.limit, func() bool { return c.holding(victims) < o.victims*len(c.nodes) })
	all := c.seconds(began, o.limit, func() bool { return c.holding(victims) == 0 })
	return crashFound{First: first, All: all, Wrong: c.deathsBut(victims)}
}

type stormFound struct {
	Seconds *float64 `json:"seconds"` // until everybody knows everybody
}

func storm(o options, name string) interface{} {
	c := newCluster(o)
	defer c.shutdown()
	began := time.Now()
	c.add(name + "0")
	seed := c.nodes[0].LocalNode().Address()
	for _, other := range names(name, o.members)[1:] {
		go func(other string) {
			time.Sleep(time.Duration(rand.Int63n(int64(burst))))
			c.joining(c.add(other), seed)
		}(other)
	}
	return stormFound{Seconds: c.seconds(began, o.limit, func() bool { return c.known == c.pairs(o.members) })}
}

type leaveFound struct {
	Seconds *float64 `json:"seconds"` // until all others hold the one that left gone
	Wrong   int      `json:"wrong"`   // times that another one was held dead
}

func leave(o options, name string) interface{} {
	c := newCluster(o)
	defer c.shutdown()
	c.grow(name, o.members)
	c.await("all know each other", func() bool { return c.known == c.pairs(o.members) })
	time.Sleep(quiet + time.Duration(rand.Int63n(int64(time.Second))))
	c.resetDeaths()
	leaver := c.nodes[rand.Intn(len(c.nodes))]
	gone := []string{leaver.LocalNode().Name}
	began := time.Now()
	go func() { _ = leaver.Leave(leaving) }() // an error says that nobody heard it in time: the others show that
	seconds := c.seconds(began, o.limit, func() bool { return c.holding(gone) == 0 })
	return leaveFound{Seconds: seconds, Wrong: c.deathsBut(gone)}
}

type idleFound struct {
	Packets  float64 `json:"packets"`  // datagrams a second that a member sends
	Bytes    float64 `json:"bytes"`    // their bytes a second, without UDP's and IP's
	Streamed float64 `json:"streamed"` // bytes a second over TCP, both ways: the exchange of full state
	CPU      float64 `json:"cpu"`      // share of one core that a member takes; only where runs is 1
	Wrong    int     `json:"wrong"`    // times that a member was held dead
}

func idle(o options, name string) interface{} {
	c := newCluster(o)
	defer c.shutdown()
	c.grow(name, o.members)
	c.await("all know each other", func() bool { return c.known == c.pairs(o.members) })
	time.Sleep(o.settle)
	c.resetDeaths()
	before, cpu, began := c.traffic(), cpuSeconds(), time.Now()
	time.Sleep(o.window)
	after, share := c.traffic(), time.Since(began).Seconds()*float64(o.members)
	return idleFound{
		Packets:  float64(after.packets-before.packets) / share,
		Bytes:    float64(after.bytes-before.bytes) / share,
		Streamed: float64(after.streamed-before.streamed) / share,
		CPU:      (cpuSeconds() - cpu) / share,
		Wrong:    c.deathsBut(nil),
	}
}

func cpuSeconds() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		fail(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}

// -- those who are killed ---------------------------------------------------------------------------------------------

// startVictims starts the child process; it returns what the child says, and how to kill it.
func startVictims(o options, prefix, seed string) (*bufio.Reader, func()) {
	command := exec.Command(os.Args[0], host, "-prefix", prefix, "-join", seed,
		"-victims", fmt.Sprint(o.victims), "-members", fmt.Sprint(o.members))
	command.Stderr = os.Stderr
	_, err := command.StdinPipe() // never written to: its end is the end of this process
	if err != nil {
		fail(err)
	}
	output, err := command.StdoutPipe()
	if err != nil {
		fail(err)
	}
	if err := command.Start(); err != nil {
		fail(err)
	}
	return bufio.NewReader(output), func() {
		if err := command.Process.Kill(); err != nil {
			fail(err)
		}
		go func() { _ = command.Wait() }() // its error says that it was killed
	}
}

// hostVictims is the child process: it joins the others, says so when all of its members know all, and waits for death.
func hostVictims(o options) {
	c := newCluster(o)
	for _, name := range names(o.prefix, o.victims) {
		c.joining(c.add(name), o.join)
	}
	for _, node := range c.nodes {
		for node.NumMembers() < o.members {
			time.Sleep(glance)
		}
	}
	fmt.Println("ready")
	select {}
}

// -- a cluster and what its members hold ------------------------------------------------------------------------------

// cluster is the members that live in this process, and what they hold of everybody.
type cluster struct {
	options
	lock    sync.Mutex
	changed *sync.Cond
	nodes   []*memberlist.Memberlist
	ended   bool
	holders map[string]int // by member: how many others of this process hold it alive
	deaths  map[string]int // by member: how often one of them stopped to do so
	known   int            // the sum of holders
	sent    traffic
}

func newCluster(o options) *cluster {
	c := &cluster{options: o, holders: map[string]int{}, deaths: map[string]int{}}
	c.changed = sync.NewCond(&c.lock)
	return c
}

func names(prefix string, count int) []string {
	var all []string
	for i := 0; i < count; i++ {
		all = append(all, fmt.Sprint(prefix, i))
	}
	return all
}

// pairs is how many (observer, other member) there are.
func (c *cluster) pairs(members int) int { return members * (members - 1) }

// grow adds members one by one; the first is the seed of the others.
func (c *cluster) grow(prefix string, count int) {
	for _, name := range names(prefix, count) {
		node := c.add(name)
		if node != c.nodes[0] {
			c.joining(node, c.nodes[0].LocalNode().Address())
			time.Sleep(gentle)
		}
	}
}

// add creates a member on a free port of loopback. It knows nobody.
func (c *cluster) add(name string) *memberlist.Memberlist {
	config := memberlist.DefaultLANConfig()
	config.Name = name
	config.LogOutput = io.Discard
	config.Events = &observer{c, name}
	if c.sealed {
		config.SecretKey = []byte(strings.Repeat("k", 32))
	}
	transport := c.listen()
	config.Transport = transport
	config.BindAddr, config.AdvertiseAddr = "127.0.0.1", "127.0.0.1"
	config.BindPort, config.AdvertisePort = transport.GetAutoBindPort(), transport.GetAutoBindPort()
	node, err := memberlist.Create(config)
	if err != nil {
		fail(err)
	}
	c.lock.Lock()
	defer c.lock.Unlock()
	c.nodes = append(c.nodes, node)
	return node
}

// listen binds TCP and UDP to one port. The kernel finds it for TCP; that it is free for UDP is luck, so it is tried.
func (c *cluster) listen() metered {
	var err error
	for try := 0; try < 10; try++ {
		var transport *memberlist.NetTransport
		transport, err = memberlist.NewNetTransport(&memberlist.NetTransportConfig{BindAddrs: []string{"127.0.0.1"}})
		if err == nil {
			return metered{transport, &c.sent}
		}
	}
	fail(err)
	panic("unreachable")
}

// joining tries until a member has joined, as whoever uses memberlist has to.
func (c *cluster) joining(node *memberlist.Memberlist, seed string) {
	for {
		if _, err := node.Join([]string{seed}); err == nil {
			return
		}
		time.Sleep(retry)
		c.lock.Lock()
		ended := c.ended
		c.lock.Unlock()
		if ended {
			return
		}
	}
}

// shutdown begins to end all members. Nobody waits for it: in the middle of a storm it takes minutes, and at the latest
// they end with this process.
func (c *cluster) shutdown() {
	c.lock.Lock()
	c.ended = true
	nodes := c.nodes
	c.lock.Unlock()
	for _, node := range nodes {
		go func(node *memberlist.Memberlist) {
			_ = node.Shutdown() // a socket that will not close closes with the process
		}(node)
	}
}

// seconds is the time from began until condition holds; nil if it does not within the limit.
func (c *cluster) seconds(began time.Time, limit time.Duration, condition func() bool) *float64 {
	over := false
	timer := time.AfterFunc(time.Until(began.Add(limit)), func() {
		c.lock.Lock()
		defer c.lock.Unlock()
		over = true
		c.changed.Broadcast()
	})
	defer timer.Stop()
	c.lock.Lock()
	defer c.lock.Unlock()
	for !condition() {
		if over {
			return nil
		}
		c.changed.Wait()
	}
	seconds := time.Since(began).Seconds()
	return &seconds
}

// await is for what has to be before anything is measured.
func (c *cluster) await(what string, condition func() bool) {
	if c.seconds(time.Now(), acquainted, condition) == nil {
		fail(fmt.Errorf("not within %v: %s", acquainted, what))
	}
}

// holding counts the pairs of an observer and one of these members that it holds alive. The lock is the caller's.
func (c *cluster) holding(members []string) int {
	count := 0
	for _, member := range members {
		count += c.holders[member]
	}
	return count
}

func (c *cluster) resetDeaths() {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.deaths = map[string]int{}
}

// deathsBut counts how often anybody but these was held dead or gone.
func (c *cluster) deathsBut(members []string) int {
	c.lock.Lock()
	defer c.lock.Unlock()
	count := 0
	for _, deaths := range c.deaths {
		count += deaths
	}
	for _, member := range members {
		count -= c.deaths[member]
	}
	return count
}

// observer hears what one member finds out.
type observer struct {
	cluster *cluster
	name    string
}

func (o *observer) NotifyJoin(node *memberlist.Node)   { o.count(node.Name, 1) }
func (o *observer) NotifyLeave(node *memberlist.Node)  { o.count(node.Name, -1) }
func (o *observer) NotifyUpdate(node *memberlist.Node) {}

func (o *observer) count(member string, change int) {
	if member == o.name {
		return
	}
	o.cluster.lock.Lock()
	defer o.cluster.lock.Unlock()
	o.cluster.holders[member] += change
	o.cluster.known += change
	if change < 0 {
		o.cluster.deaths[member]++
	}
	o.cluster.changed.Broadcast()
}

// -- what they send ---------------------------------------------------------------------------------------------------

type traffic struct{ packets, bytes, streamed int64 }

func (c *cluster) traffic() traffic {
	return traffic{
		atomic.LoadInt64(&c.sent.packets), atomic.LoadInt64(&c.sent.bytes), atomic.LoadInt64(&c.sent.streamed),
	}
}

// metered is memberlist's own transport with a count of what goes through it.
type metered struct {
	*memberlist.NetTransport
	sent *traffic
}

func (t metered) WriteTo(data []byte, address string) (time.Time, error) {
	return t.WriteToAddress(data, memberlist.Address{Addr: address})
}

func (t metered) WriteToAddress(data []byte, address memberlist.Address) (time.Time, error) {
	atomic.AddInt64(&t.sent.packets, 1)
	atomic.AddInt64(&t.sent.bytes, int64(len(data)))
	return t.NetTransport.WriteToAddress(data, address)
}

func (t metered) DialTimeout(address string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: address}, timeout)
}

func (t metered) DialAddressTimeout(address memberlist.Address, timeout time.Duration) (net.Conn, error) {
	connection, err := t.NetTransport.DialAddressTimeout(address, timeout)
	if err != nil {
		return nil, err
	}
	return meteredStream{connection, t.sent}, nil
}

// meteredStream counts both ways, so that only the end that dials has to.
type meteredStream struct {
	net.Conn
	sent *traffic
}

func (s meteredStream) Read(data []byte) (int, error) {
	count, err := s.Conn.Read(data)
	atomic.AddInt64(&s.sent.streamed, int64(count))
	return count, err
}

func (s meteredStream) Write(data []byte) (int, error) {
	count, err := s.Conn.Write(data)
	atomic.AddInt64(&s.sent.streamed, int64(count))
	return count, err
}
