// Conversations and settings, in this browser and nowhere else.

const CHATS = "nomoat.chats";
const SETTINGS = "nomoat.settings";
const MOST = 50;

function read(name, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(name)) ?? otherwise;
  } catch {
    return otherwise; // storage is switched off, or holds something else
  }
}

function write(name, value) {
  try {
    localStorage.setItem(name, JSON.stringify(value));
  } catch {
    // full or switched off: the talk goes on, it is only not kept
  }
}

export const loadChats = () => read(CHATS, []);
export const loadSettings = () => read(SETTINGS, {});
export const saveSettings = (settings) => write(SETTINGS, settings);

// Newest first.
export function saveChat(chat) {
  write(CHATS, [chat, ...loadChats().filter((other) => other.id !== chat.id)].slice(0, MOST));
}

export function dropChat(id) {
  write(CHATS, loadChats().filter((chat) => chat.id !== id));
}
