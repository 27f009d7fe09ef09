// Connections of TCP proxies: which instance takes each, by what the agent told last.
// All workers share what is known, so that it counts for the next connection, whichever takes it.

const ports = ngx.shared.a8_tcp;         // by port: what becomes of its connections, as JSON
const numbers = ngx.shared.a8_tcp_state; // whose turn it is, who is left out until when, and how often in a row

const counts = ngx.shared.a8_tcp_counts; // connections and bytes by port, since nginx began
const COUNTED = ['connections', 'received', 'sent'];

const open = ngx.shared.a8_tcp_open;     // connections under way, by worker and by what they count for
const handed = ngx.shared.a8_tcp_handed; // what was decided of a connection, until it is led on

const LEFT_OUT = 3000;                   // ms after a first refused connection; each further one doubles it
const LEFT_OUT_LONGEST = 24000;
const FORGET = 3600000;

function read(name) {
    return require('fs').readFileSync(name, 'utf8');
}

function follow(file) {
    const told = JSON.parse(read(file));
    Object.keys(told).forEach((port) => ports.set(port, JSON.stringify(told[port])));
    return 'ok';
}

// What was counted: for each port, a line of its number and the figures.
function figures() {
    const lines = ports.keys().map((port) =>
        [port].concat(COUNTED.map((name) => counts.get(`${name} ${port}`) || 0)).join(' '));
    return ['ok'].concat(lines).join('\n');
}

// The agent says one line: "figures", or the name of a file that holds {port: {...}}, what is to become of
// connections. The answer begins with "ok", or is what is wrong.
function take(s) {
    let line = '';
    s.on('upload', (data) => {
        line += data;
        if (!line.endsWith('\n')) {
            return;
        }
        const word = line.slice(0, -1);
        try {
            s.variables.a8_tcp_reply = `${word === 'figures' ? figures() : follow(word)}\n`;
        } catch (problem) {
            s.variables.a8_tcp_reply = `${problem}\n`;
        }
        s.done();
    });
}

function slice(port) {
    let point = Math.random() * port.total;
    const found = port.slices.find((each) => {
        point -= each.weight;
        return point < 0;
    });
    return found || port.slices[port.slices.length - 1];
}

function isOpen(address, now) {
    return (numbers.get(`out ${address}`) || 0) <= now;
}

// What a worker that died had counted goes, when the one in its place begins.
function begin() {
    const id = ngx.worker_id;
    if (open.get(`pid ${id}`) === process.pid) {
        return;
    }
    open.set(`pid ${id}`, process.pid);
    open.set('workers', Math.max(open.get('workers') || 0, id + 1));
    open.keys(1000000).filter((key) => key.startsWith(`${id} `)).forEach((key) => open.delete(key));
}

function add(key) {
    begin();
    open.incr(`${ngx.worker_id} ${key}`, 1, 0);
}

function drop(key) {
    const own = `${ngx.worker_id} ${key}`;
    if (open.incr(own, -1, 0) <= 0) {
        open.delete(own);
    }
}

// Connections under way that count for this, over all workers.
function underWay(key) {
    let found = 0;
    for (let id = (open.get('workers') || 0) - 1; id >= 0; id--) {
        found += open.get(`${id} ${key}`) || 0;
    }
    return found;
}

const atVersion = (target) => `version ${target.name}`;
const atInstance = (peer) => `instance ${peer.addresses[0]}`;

// The instance that the target's lb_type says and one of its addresses; those left out only when all are.
function pick(target, now) {
    const peers = target.peers;
    const count = peers.length;
    const start = target.lb === 'random' ?
        Math.floor(Math.random() * count) : numbers.incr(`turn ${target.name}`, 1, 0, FORGET) % count;
    let found, least;
    for (let i = 0; i < count; i++) {
        const peer = peers[(start + i) % count];
        const address = peer.addresses.find((each) => isOpen(each, now));
        if (address && target.lb !== 'least_request') {
            return [peer, address];
        }
        const load = address && underWay(atInstance(peer));
        if (address && (!found || load < least)) {
            found = [peer, address];
            least = load;
        }
    }
    return found || [peers[start], peers[start].addresses[0]];
}

// Whether the target takes one more connection; it counts as taken then.
function enter(target) {
    if (!target.most) {
        return true;
    }
    const key = atVersion(target);
    add(key);
    if (underWay(key) > target.most) {
        drop(key);
        return false;
    }
    return true;
}

// Take a connection and hand it to who leads it on, or close it where none is allowed and where nobody could
// take it.
function admit(s) {
    const text = ports.get(s.variables.server_port);
    const port = text && JSON.parse(text);
    s.variables.a8_tcp_rule = port ? port.rule : '-';
    s.variables.a8_tcp_dst = port ? port.service : '';
    if (!port || !port.slices.length) {
        return s.deny();
    }
    const target = port.targets[slice(port).target];
    if (!target.peers.length || !enter(target)) {
        return s.deny();
    }
    const found = pick(target, Date.now());
    const peer = found[0];
    const counted = target.most ? [atVersion(target)] : [];
    if (target.lb === 'least_request') {
        add(atInstance(peer));
        counted.push(atInstance(peer));
    }
    const call = JSON.stringify({
        port: s.variables.server_port, rule: port.rule, dst: peer.dst, to: found[1], name: peer.name || '',
        counted: counted, window: target.window, interval: target.interval,
    });
    s.variables.a8_tcp_dst = peer.dst;
    s.variables.a8_tcp_call = call;
    s.variables.a8_tcp_way = peer.name === undefined ? 'plain' : 'tls';
    handed.set(s.variables.connection, call);
    s.allow();
}

// Lead a connection on that was handed over.
function adopt(s) {
    const text = handed.get(s.variables.connection);
    handed.delete(s.variables.connection);
    if (!text) {
        return s.deny();
    }
    const call = JSON.parse(text);
    s.variables.a8_tcp_call = text;
    s.variables.a8_tcp_rule = call.rule;
    s.variables.a8_tcp_dst = call.dst;
    s.variables.a8_tcp_name = call.name;
    s.variables.a8_tcp_to = call.to;
    s.allow();
}

function count(s, port) {
    counts.incr(`connections ${port}`, 1, 0);
    counts.incr(`received ${port}`, Number(s.variables.bytes_received), 0);
    counts.incr(`sent ${port}`, Number(s.variables.bytes_sent), 0);
}

// Leave an address out that refused, longer each time; it comes back when it is looked at.
function leaveOut(address, call) {
    const first = call.window || LEFT_OUT;
    const row = numbers.incr(`row ${address}`, 1, 0, FORGET);
    const now = Date.now();
    let till = now + Math.min(first * Math.pow(2, row - 1), Math.max(first, LEFT_OUT_LONGEST));
    if (call.interval) {
        till = Math.ceil(till / call.interval) * call.interval;
    }
    numbers.set(`out ${address}`, till, till - now);
}

// At the end of each connection: it is counted, and who refused it is left out for a while. Says that the
// connection is to be recorded.
function note(s) {
    const call = JSON.parse(s.variables.a8_tcp_call || '{"counted":[]}');
    count(s, call.port || s.variables.server_port);
    call.counted.forEach(drop);
    const address = s.variables.upstream_addr;
    if (address && s.variables.status !== '502') {
        numbers.delete(`row ${address}`);
    } else if (address) {
        leaveOut(address, call);
    }
    return '1';
}

// When a connection began that ends now.
function began(s) {
    const seconds = Number(s.variables.msec) - Number(s.variables.session_time);
    return new Date(Math.round(seconds * 1000)).toISOString();
}

export default { begin, take, admit, adopt, note, began };
