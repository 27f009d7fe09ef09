// Connections of TCP proxies: which instance takes each, by what the agent told last.
// All workers share what is known, so that it counts for the next connection, whichever takes it.

const ports = ngx.shared.a8_tcp;         // by port: what becomes of its connections, as JSON
const numbers = ngx.shared.a8_tcp_state; // whose turn it is, who is left out until when, and how often in a row

const counts = ngx.shared.a8_tcp_counts; // connections and bytes by port, since nginx began
const COUNTED = ['connections', 'received', 'sent'];

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

// The instance whose turn it is and one of its addresses; those left out only when all are.
function pick(target, now) {
    const peers = target.peers;
    const turn = numbers.incr(`turn ${target.name}`, 1, 0, FORGET);
    for (let i = 0; i < peers.length; i++) {
        const peer = peers[(turn + i) % peers.length];
        const address = peer.addresses.find((each) => isOpen(each, now));
        if (address) {
            return [peer, address];
        }
    }
    const peer = peers[turn % peers.length];
    return [peer, peer.addresses[0]];
}

// Take a connection, or close it where none is allowed and where nobody could take it.
function admit(s) {
    const text = ports.get(s.variables.server_port);
    const port = text && JSON.parse(text);
    s.variables.a8_tcp_rule = port ? port.rule : '';
    s.variables.a8_tcp_dst = port ? port.service : '';
    if (!port || !port.slices.length) {
        return s.deny();
    }
    const target = port.targets[slice(port).target];
    if (!target.peers.length) {
        return s.deny();
    }
    const found = pick(target, Date.now());
    s.variables.a8_tcp_dst = found[0].dst;
    s.variables.a8_tcp_to = found[1];
    s.allow();
}

function count(s) {
    const port = s.variables.server_port;
    counts.incr(`connections ${port}`, 1, 0);
    counts.incr(`received ${port}`, Number(s.variables.bytes_received), 0);
    counts.incr(`sent ${port}`, Number(s.variables.bytes_sent), 0);
}

// At the end of each connection: it is counted, and who refused it is left out for a while. Says that the
// connection is to be recorded.
function note(s) {
    count(s);
    const address = s.variables.upstream_addr;
    if (address && s.variables.status !== '502') {
        numbers.delete(`row ${address}`);
    } else if (address) {
        const row = numbers.incr(`row ${address}`, 1, 0, FORGET);
        const held = Math.min(LEFT_OUT * Math.pow(2, row - 1), LEFT_OUT_LONGEST);
        numbers.set(`out ${address}`, Date.now() + held, held);
    }
    return '1';
}

export default { take, admit, note };
